// Runs in the audio thread: hands the microphone's sound on in pieces of 20 ms, mono.
const PIECE_SECONDS = 0.02;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate * PIECE_SECONDS));
    this.held = 0;
  }

  process([input]) {
    const [left, right] = input;
    if (!left) return true;
    for (let i = 0; i < left.length; i++) {
      this.piece[this.held++] = right ? (left[i] + right[i]) / 2 : left[i];
      if (this.held === this.piece.length) this.hand();
    }
    return true;
  }

  hand() {
    this.port.postMessage(this.piece.slice());
    this.held = 0;
  }
}

registerProcessor("capture", Capture);
