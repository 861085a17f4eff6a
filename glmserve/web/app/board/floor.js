// The floor of a step: the least time that it could take at the highest rates that were reached.
//
// A step reads all weights, and the keys and values of all its contexts, and computes its new tokens.
// Two rates bound it, as in the roofline model: bytes that are read in a second, and tokens that are
// computed in a second. The engine does not know those of its device, so the highest ones that its steps
// have reached stand for them. Each is a median of a few steps, so that one step whose end was noticed
// late changes nothing. Arithmetic of attention is not counted.

const KEPT = 9; // steps of which the median counts

class HighestRate {
  constructor() {
    this.recent = [];
    this.value = 0;
  }

  add(amount, seconds) {
    if (!(amount > 0 && seconds > 0)) return;
    this.recent.push(amount / seconds);
    if (this.recent.length > KEPT) this.recent.shift();
    if (this.recent.length < KEPT) return;
    const middle = [...this.recent].sort((a, b) => a - b)[KEPT >> 1];
    this.value = Math.max(this.value, middle);
  }
}

/** Learns from the costs of moments: [seconds, new tokens, tokens of all contexts]. */
export class StepFloor {
  constructor() {
    this.bytes = new HighestRate();
    this.rows = new HighestRate();
  }

  record({ costs, weight_bytes: weights, token_bytes: token }) {
    for (const [seconds, rows, context] of costs) {
      this.bytes.add(weights && weights + token * context, seconds);
      this.rows.add(rows, seconds);
    }
  }

  /** Seconds of all steps of a moment together; null: not known. */
  of({ costs, weight_bytes: weights, token_bytes: token }) {
    if (!this.bytes.value || !this.rows.value || !costs.length) return null;
    return costs.reduce((total, [, rows, context]) => total
      + Math.max((weights + token * context) / this.bytes.value, rows / this.rows.value), 0);
  }
}
