// The page's data, and arrays of any shape in it: base64 of little-endian numbers.

const KINDS = { float32: Float32Array, uint8: Uint8Array, int16: Int16Array };
const NO_STEPS = -32768;

class Cube {
  constructor({ kind, shape, base64, step }) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    this.values = new KINDS[kind](bytes.buffer);
    this.shape = shape;
    this.step = step;
  }

  at(...place) {
    let flat = 0;
    for (let k = 0; k < this.shape.length; k++) flat = flat * this.shape[k] + place[k];
    const value = this.values[flat];
    if (this.step === undefined) return value;
    return value === NO_STEPS ? NaN : value * this.step;
  }
}

const data = JSON.parse(document.getElementById("data").textContent);
