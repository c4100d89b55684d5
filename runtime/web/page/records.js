/** Records kept as JSON lines; the browser holds them outside of the page's own memory. */

const LINES_A_PART = 500;

/** The lines of a visit to the page. */
export class Records {
  constructor() {
    this.count = 0;
    /** @type {Blob[]} */
    this.parts = [];
    /** @type {string[]} */
    this.lines = [];
  }

  /** @param {object} record */
  add(record) {
    this.count++;
    this.lines.push(`${JSON.stringify(record)}\n`);
    if (this.lines.length >= LINES_A_PART) {
      this.parts.push(new Blob(this.lines));
      this.lines = [];
    }
  }

  /** Return all of them as a file. */
  blob() {
    return new Blob([...this.parts, ...this.lines], { type: "application/x-ndjson" });
  }

  /** Forget them. */
  clear() {
    Object.assign(this, new Records());
  }
}
