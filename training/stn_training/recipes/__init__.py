"""The recipes of published experiments, by name: a family of rows in each YAML file beside this one."""

import difflib
from pathlib import Path
from typing import Any

import yaml

from stn_runtime import InputError

_FOLDER = Path(__file__).parent


def released_recipes() -> dict[str, dict[str, Any]]:
    """Return the options of every released recipe by its name, with its family's defaults filled in."""
    recipes: dict[str, dict[str, Any]] = {}
    for path in sorted(_FOLDER.glob("*.yaml")):
        family = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, options in family["recipes"].items():
            defaults = family["defaults"]
            another = options.get("model", defaults.get("model")) != defaults.get("model")  # for which they do not hold
            shared = {} if another else defaults.get("options", {})
            both = {**shared, **options.get("options", {})}
            recipes[name] = {**defaults, **options, **({"options": both} if both else {})}
    return recipes


def read_recipe(name: str) -> dict[str, Any]:
    """Return the options of a released recipe, or of a YAML file of 'option: value' lines.

    Raises:
        InputError: There is no such recipe or file, or the file is not one of options.
    """
    path = Path(name)
    recipes = released_recipes()
    if name in recipes:
        return recipes[name]
    if path.suffix.lower() not in (".yaml", ".yml", ".json") and not path.is_file():
        near = difflib.get_close_matches(name, recipes, n=3) or sorted(recipes)
        raise InputError(f"no recipe '{name}'; there are {', '.join(near)}, and files of your own (.yaml)")
    return read_options(path)


def read_options(path: Path) -> dict[str, Any]:
    """Return the content of a YAML or JSON file of options, such as a run's config.json.

    Raises:
        InputError: The file is missing or is not an object.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as a recipe ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: is not a recipe; 'option: value' lines are expected")
    return values
