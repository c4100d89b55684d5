"""Where frames come from: files, folders, videos, cameras, streams."""
