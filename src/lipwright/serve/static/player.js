// Plays frames: the sound by the audio device's own clock, and every picture when its sound is heard.

const FRAME_SECONDS = 0.04;
const FRAME_MICROSECONDS = 40_000;
// Sound is planned so far ahead of the device, which covers the jitter of network and page.
const LEAD_SECONDS = 0.1;
// Sound that would come later than this is late: everything moves back.
const LEAST_LEAD_SECONDS = 0.01;
// A lead that was longer than needed by this for two seconds is shortened in the next moment of rest.
const SLACK_SECONDS = 0.06;
const REMEMBERED = 50;
// Decoded pictures that may wait; a page in the background draws none.
const WAITING_PICTURES = 60;

/** Turns JPEG or H.264 into pictures that a canvas can draw. */
class Decoder {
  /**
   * @param {(image: CanvasImageSource & {close(): void}, sequence: number) => void} onPicture
   * @param {(error: Error) => void} onError
   */
  constructor(onPicture, onError) {
    this.onPicture = onPicture;
    this.onError = onError;
    this.video = null;
    this.keyed = false;
  }

  /** The server says what its H.264 is. */
  configure(codec) {
    this.video = new VideoDecoder({
      output: (frame) => this.onPicture(frame, Math.round(frame.timestamp / FRAME_MICROSECONDS)),
      error: this.onError,
    });
    this.video.configure({ codec, optimizeForLatency: true });
    this.keyed = false;
  }

  async decode(header, data) {
    if (this.video) {
      this.keyed ||= header.key;
      if (!this.keyed || this.video.state !== "configured") return;
      const type = header.key ? "key" : "delta";
      this.video.decode(new EncodedVideoChunk({ type, timestamp: header.pts, data }));
      return;
    }
    const image = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
    this.onPicture(image, header.sequence);
  }

  close() {
    if (this.video && this.video.state !== "closed") this.video.close();
  }
}

/** Whether pictures can come as H.264; only pages from https or localhost have WebCodecs. */
export async function knowsH264() {
  if (!("VideoDecoder" in window)) return false;
  const support = await VideoDecoder.isConfigSupported({ codec: "avc1.42c01f", optimizeForLatency: true });
  return support.supported === true;
}

export class Player {
  /**
   * @param {AudioContext} context
   * @param {HTMLCanvasElement} canvas
   * @param {object} ready the server's first message
   * @param {(error: Error) => void} onError called when pictures cannot be decoded
   */
  constructor(context, canvas, ready, onError) {
    this.context = context;
    this.canvas = canvas;
    this.painter = canvas.getContext("2d", { alpha: false });
    this.rate = ready.audio.rate;
    this.channels = ready.audio.channels;
    this.gain = new GainNode(context);
    this.gain.connect(context.destination);
    this.decoder = new Decoder((image, sequence) => this.#keep(image, sequence), onError);
    canvas.width = ready.width;
    canvas.height = ready.height;

    /** Time on the device's clock at which frame 0 would be heard; null before the first sound. */
    this.base = null;
    this.arrived = -1;
    this.leads = [];
    this.sources = new Set();
    this.pictures = new Map();
    this.unwanted = new Set();
    this.shown = -1;
    /** Called when the first picture is on the canvas. */
    this.onFirst = () => {};
    this.drawn = [];
    /** Since the page was last brought to the front: the first frame shown, how many were, how many before were not. */
    this.first = null;
    this.count = 0;
    this.before = 0;
    this.request = requestAnimationFrame(() => this.#draw());
    this.onVisible = () => this.#startCounting();
    document.addEventListener("visibilitychange", this.onVisible);
  }

  set muted(muted) {
    this.gain.gain.setTargetAtTime(muted ? 0 : 1, this.context.currentTime, 0.02);
  }

  /** @param {Float32Array} samples interleaved, 40 ms */
  sound(header, samples) {
    this.arrived = header.sequence;
    if (this.context.state !== "running") {
      this.base = null; // its clock stands still
      return;
    }
    const lead = this.#lead(header.sequence);
    this.leads.push(lead);
    if (this.leads.length > REMEMBERED) this.leads.shift();
    const needless = this.leads.length === REMEMBERED && Math.min(...this.leads) > LEAD_SECONDS + SLACK_SECONDS;
    if (needless && !header.speaking) {
      this.base -= FRAME_SECONDS;
      this.leads = [];
      return;
    }
    if (samples.some((value) => value !== 0)) this.#plan(header.sequence, samples);
  }

  /** A stale picture is not shown, but those after it may build on it. */
  picture(header, data, stale) {
    if (stale) this.unwanted.add(header.sequence);
    this.decoder.decode(header, data).catch(this.decoder.onError);
  }

  configure(codec) {
    this.decoder.configure(codec);
  }

  /** Stop everything that was planned; what comes next has its own place in time. */
  clear() {
    for (const source of this.sources) source.stop();
    this.sources.clear();
    for (const image of this.pictures.values()) image.close();
    this.pictures.clear();
  }

  close() {
    cancelAnimationFrame(this.request);
    document.removeEventListener("visibilitychange", this.onVisible);
    this.clear();
    this.decoder.close();
    this.gain.disconnect();
  }

  /** Pictures a second over the last two seconds. */
  get fps() {
    const since = performance.now() - 2000;
    this.drawn = this.drawn.filter((time) => time >= since);
    return this.drawn.length / 2;
  }

  /** Frames whose time has passed without their own picture on the screen, but for those of a hidden page. */
  get dropped() {
    const heard = Math.min(this.#heard(), Math.max(this.arrived, this.shown));
    return this.before + (this.first === null ? 0 : Math.max(0, heard - this.first + 1 - this.count));
  }

  /** From the arrival of a frame until it is heard, seconds. */
  get delay() {
    const middle = [...this.leads].sort((a, b) => a - b)[this.leads.length >> 1] ?? 0;
    return middle + this.#outputLatency();
  }

  /** How far ahead of the device a frame has come, after moving everything back if it is too late. */
  #lead(sequence) {
    const now = this.context.currentTime;
    this.base ??= this.#onGrid(now + LEAD_SECONDS - sequence * FRAME_SECONDS);
    const lead = this.base + sequence * FRAME_SECONDS - now;
    if (lead >= LEAST_LEAD_SECONDS) return lead;
    this.base = this.#onGrid(this.base + LEAD_SECONDS - lead);
    this.leads = [];
    return LEAD_SECONDS;
  }

  /** A time that is a whole number of samples, so that pieces join without a seam. */
  #onGrid(time) {
    return Math.round(time * this.context.sampleRate) / this.context.sampleRate;
  }

  #plan(sequence, samples) {
    const buffer = new AudioBuffer({
      length: samples.length / this.channels,
      numberOfChannels: this.channels,
      sampleRate: this.rate,
    });
    for (let channel = 0; channel < this.channels; channel++) {
      const values = buffer.getChannelData(channel);
      for (let i = 0; i < values.length; i++) values[i] = samples[i * this.channels + channel];
    }
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.gain);
    source.onended = () => this.sources.delete(source);
    source.start(this.#onGrid(this.base + sequence * FRAME_SECONDS));
    this.sources.add(source);
  }

  #keep(image, sequence) {
    const old = this.pictures.get(sequence);
    if (old) old.close();
    if (this.unwanted.delete(sequence) || sequence <= this.shown) {
      image.close();
      return;
    }
    this.pictures.set(sequence, image);
    if (this.pictures.size > WAITING_PICTURES) this.#drop(this.pictures.keys().next().value);
  }

  #drop(sequence) {
    this.pictures.get(sequence).close();
    this.pictures.delete(sequence);
  }

  #outputLatency() {
    return this.context.outputLatency || this.context.baseLatency || 0;
  }

  /** The frame that is heard now; everything that has come where the device does not run. */
  #heard() {
    if (this.context.state !== "running" || this.base === null) return Infinity;
    return Math.floor((this.context.currentTime - this.#outputLatency() - this.base) / FRAME_SECONDS + 1e-6);
  }

  #draw() {
    this.request = requestAnimationFrame(() => this.#draw());
    const heard = this.#heard();
    const due = [...this.pictures.keys()].filter((sequence) => sequence <= heard);
    if (!due.length) return;
    const newest = Math.max(...due);
    this.painter.drawImage(this.pictures.get(newest), 0, 0, this.canvas.width, this.canvas.height);
    for (const sequence of due) this.#drop(sequence);
    if (this.shown < 0) this.onFirst();
    this.shown = newest;
    this.first ??= newest;
    this.count += 1;
    this.drawn.push(performance.now());
    this.canvas.dataset.sequence = String(newest);
  }

  /** A hidden page draws nothing: what passes meanwhile was not dropped. */
  #startCounting() {
    this.before = this.dropped;
    this.first = null;
    this.count = 0;
  }
}
