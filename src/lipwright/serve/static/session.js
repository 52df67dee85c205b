// One live session over the WebSocket, version 1 of the protocol (docs/protocol.md).

const VERSION = 1;
const HEADER_BYTES = 24;
const KIND = { sound: 1, jpeg: 2, h264: 3 };
const FLAG = { speaking: 1, key: 2, last: 4 };
const BYE = 1000;
// A server that answers nothing for so long is not there.
const PATIENCE_MS = 10_000;

/**
 * @typedef {object} Header
 * @property {number} kind
 * @property {boolean} speaking
 * @property {boolean} key
 * @property {boolean} last
 * @property {number} generation
 * @property {number} sequence
 * @property {number} pts microseconds
 */

/** @param {ArrayBuffer} data */
function readHeader(data) {
  const view = new DataView(data);
  if (view.getUint8(0) !== VERSION) throw new Error(`version ${view.getUint8(0)} of the protocol is not known here`);
  const flags = view.getUint16(2);
  return {
    kind: view.getUint8(1),
    speaking: Boolean(flags & FLAG.speaking),
    key: Boolean(flags & FLAG.key),
    last: Boolean(flags & FLAG.last),
    generation: view.getUint32(4),
    sequence: view.getUint32(8),
    pts: Number(view.getBigUint64(12)),
  };
}

/** Float samples, -1..1, as s16le. */
function toPcm(samples) {
  const pcm = new DataView(new ArrayBuffer(samples.length * 2));
  for (let i = 0; i < samples.length; i++) {
    pcm.setInt16(i * 2, Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768))), true);
  }
  return pcm.buffer;
}

/** s16le as float samples, -1..1. */
function fromPcm(data, offset) {
  const view = new DataView(data, offset);
  const samples = new Float32Array(view.byteLength >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(i * 2, true) / 32768;
  return samples;
}

/** Why a session could not begin, or ended before its time; the message is for people. */
export class SessionError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Session {
  /**
   * @param {WebSocket} socket
   * @param {object} ready the server's first message
   */
  constructor(socket, ready) {
    this.socket = socket;
    this.ready = ready;
    this.generation = 0;
    this.onSound = (_header, _samples) => {};
    this.onPicture = (_header, _data, _stale) => {};
    this.onText = (_message) => {};
    /** Called once: with a SessionError, or null after `bye`. */
    this.onEnd = (_error) => {};
    this.error = null;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(event);
  }

  /**
   * @param {string} avatar
   * @param {object} hello without type and version
   * @returns {Promise<Session>}
   */
  static open(avatar, hello) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/avatars/${encodeURIComponent(avatar)}/stream`);
    socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      let refusal = new SessionError("gone", "The server cannot be reached. Is it still running?");
      const waiting = setTimeout(() => {
        reject(refusal);
        socket.close(BYE);
      }, PATIENCE_MS);
      socket.onopen = () => socket.send(JSON.stringify({ type: "hello", version: VERSION, ...hello }));
      socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.type === "ready") {
          clearTimeout(waiting);
          resolve(new Session(socket, message));
        } else if (message.type === "error") refusal = new SessionError(message.code, message.message);
      };
      socket.onclose = () => {
        clearTimeout(waiting);
        reject(refusal);
      };
    });
  }

  /** @param {Float32Array} samples interleaved */
  push(samples) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(toPcm(samples));
  }

  /** @param {"interrupt" | "end" | "stats"} type */
  say(type) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type }));
  }

  /** From here on everything of before is thrown away, whatever still comes. */
  interrupt() {
    this.generation += 1;
    this.say("interrupt");
  }

  close() {
    this.socket.onmessage = null;
    this.socket.close(BYE);
  }

  #receive(data) {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.type === "error") this.error = new SessionError(message.code, message.message);
      this.onText(message);
      return;
    }
    const header = readHeader(data);
    const stale = header.generation < this.generation;
    if (header.kind === KIND.sound) {
      if (!stale) this.onSound(header, fromPcm(data, HEADER_BYTES));
    } else if (header.kind === KIND.jpeg || header.kind === KIND.h264) {
      this.onPicture(header, new Uint8Array(data, HEADER_BYTES), stale);
    }
  }

  #closed(event) {
    if (event.code === BYE) this.onEnd(null);
    else this.onEnd(this.error ?? new SessionError("lost", event.reason || "The connection to the server was lost."));
  }
}
