// The page: choose an avatar, speak or play a file, see it speak.

import { Player, knowsH264 } from "./player.js";
import { Session, SessionError } from "./session.js";

// Rates that the server takes; a context with another one gets this.
const MOST_RATE = 48_000;
const FRAMES_A_SECOND = 25;
const FRAME_SECONDS = 1 / FRAMES_A_SECOND;
// A file goes up so far ahead of its time, in pieces of this length.
const AHEAD_SECONDS = 5;
const PIECE_SECONDS = 0.5;
const FILE_BYTES = 100 * 2 ** 20;
// After a file was spoken the place is kept so long for the next one.
const IDLE_MS = 45_000;
// A browser that wants a click before any sound does not say so: it just never begins.
const RESUME_MS = 400;
const STATS_MS = 1000;
// A microphone whose connection was lost is connected again after these pauses; a server that starts anew takes seconds.
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000, 8000, 8000];
const PASSING = new Set(["lost", "stopped", "gone", "full"]);
// Fewer new pictures than this share of those that were due: the server has not the time for them.
const FEW_PICTURES = 0.8;
const TOKEN = "lipwright-token";
const NO_MICROPHONE =
  "A browser gives the microphone to pages from https or from localhost only. Playing a sound file works here.";
const MICROPHONE_GONE = "The microphone is gone. Connect it again, then press Speak.";

const $ = (id) => document.getElementById(id);

const page = {
  context: null,
  session: null,
  player: null,
  mode: null,
  microphone: null,
  file: null,
  avatar: null,
  h264: false,
  busy: false,
  soundFor: { live: false, pushed: true },
  askedAt: 0,
  told: { frames: 0, undrawn: 0 },
  timers: { stats: 0, idle: 0, push: 0 },
};

// --- what people read -------------------------------------------------------------------------------------------------

function say(text) {
  $("said").textContent = text;
}

function complain(error) {
  $("message").textContent = error.message;
  $("message").hidden = false;
}

function presence(state, text) {
  $("presence").dataset.state = state;
  $("presence-text").textContent = text;
}

function showControls() {
  const live = page.mode === "live";
  $("microphone").dataset.live = String(live);
  $("microphone-text").textContent = live ? "Stop the microphone" : "Speak";
  $("interrupt").disabled = !page.session;
  if (!page.session) $("stage").dataset.state = "off";
  const kind = page.mode ?? "pushed";
  $("sound").checked = page.soundFor[kind];
  $("sound-note").hidden = !(live && !page.soundFor.live);
  if (page.player) page.player.muted = !page.soundFor[kind];
  $("silent").hidden = !page.session || page.context.state === "running";
  if (!live) $("level").style.setProperty("--level", "0");
}

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function showProgress() {
  const file = page.file;
  $("progress").hidden = !file;
  if (!file) return;
  const spoken = Math.min(file.spoken * FRAME_SECONDS, file.seconds);
  $("progress-name").textContent = file.name;
  $("progress-bar").value = file.seconds ? spoken / file.seconds : 0;
  $("progress-time").textContent = `${clock(spoken)} / ${clock(file.seconds)}`;
}

function showFigures(stats) {
  const { player, session } = page;
  const network = performance.now() - page.askedAt;
  const server = stats.latency_ms_p50;
  const playing = player.delay * 1000;
  $("latency").textContent = server === undefined ? "–" : `${Math.round(server + network + playing)} ms`;
  $("fps").textContent = `${player.fps.toFixed(0)} fps`;
  $("dropped").textContent = String(player.dropped);
  const parts =
    server === undefined
      ? `Look-ahead ${Math.round(session.ready.lookahead_ms)} ms`
      : `Server ${Math.round(server)} ms, of which look-ahead ${Math.round(session.ready.lookahead_ms)} · ` +
        `network ${Math.round(network)} · playback ${Math.round(playing)}`;
  $("detail").textContent = hasTime(stats) ? parts : `${parts}. The server has not the time for all pictures now; the sound goes on.`;
}

/** Whether the server has drawn most of the pictures since it was asked last. */
function hasTime({ frames, undrawn }) {
  const due = frames - page.told.frames;
  const drawn = due - (undrawn - page.told.undrawn);
  page.told = { frames, undrawn };
  return drawn >= FEW_PICTURES * due;
}

function forgetFigures() {
  for (const name of ["latency", "fps", "dropped"]) $(name).textContent = "–";
  $("detail").textContent = "";
  page.told = { frames: 0, undrawn: 0 };
}

// --- avatars and token ------------------------------------------------------------------------------------------------

function authorization() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function fetched(path) {
  let answer;
  try {
    answer = await fetch(path, { headers: authorization() });
  } catch {
    throw new SessionError("gone", "The server cannot be reached. Is it still running?");
  }
  if (answer.status === 401) throw new SessionError("token", "The server wants its token.");
  if (!answer.ok) throw new SessionError("server", `The server answered ${answer.status}.`);
  return answer;
}

async function loadAvatars() {
  try {
    const { avatars } = await (await fetched("/v1/avatars")).json();
    if ($("token-form").contains(document.activeElement)) $("controls").focus();
    $("token-form").hidden = true;
    await Promise.all(avatars.map(loadPoster));
    showAvatars(avatars);
  } catch (error) {
    if (error.code !== "token") return complain(error);
    if (sessionStorage.getItem(TOKEN)) complain(new Error("That is not the server's token."));
    $("token-form").hidden = false;
    $("token").focus();
  }
  return undefined;
}

async function loadPoster(avatar) {
  avatar.image = URL.createObjectURL(await (await fetched(avatar.poster)).blob());
}

function showAvatars(avatars) {
  $("avatar-list").replaceChildren(...avatars.map(avatarChoice));
  $("avatars").hidden = avatars.length < 2;
  for (const button of ["microphone", "choose"]) $(button).disabled = false;
  showMicrophoneNote();
  choose(avatars[0]);
}

function avatarChoice(avatar, index) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "avatar", checked: index === 0 });
  const image = Object.assign(document.createElement("img"), { src: avatar.image, alt: "" });
  const name = Object.assign(document.createElement("span"), { textContent: avatar.name });
  label.className = "avatar";
  label.append(input, image, name);
  input.addEventListener("change", () => choose(avatar));
  return label;
}

function choose(avatar) {
  hangUp();
  page.avatar = avatar;
  $("poster").src = avatar.image;
  $("stage").style.aspectRatio = `${avatar.width} / ${avatar.height}`;
  $("picture").setAttribute("aria-label", `The avatar ${avatar.name}`);
}

function showMicrophoneNote() {
  const possible = window.isSecureContext && navigator.mediaDevices?.getUserMedia;
  $("microphone").disabled = !possible;
  $("microphone-note").textContent = possible ? "" : NO_MICROPHONE;
}

// --- a session --------------------------------------------------------------------------------------------------------

/** The one audio context: made by a click, as browsers want it, at a rate that the server takes. */
async function sounding() {
  if (!page.context) {
    page.context = new AudioContext({ latencyHint: "interactive" });
    if (page.context.sampleRate > MOST_RATE || page.context.sampleRate % FRAMES_A_SECOND) {
      await page.context.close();
      page.context = new AudioContext({ latencyHint: "interactive", sampleRate: MOST_RATE });
    }
  }
  await Promise.race([page.context.resume(), later(RESUME_MS)]);
  return page.context;
}

function later(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Dropping a file is no click for a browser, which lets a page sound only after one. */
async function allowSound() {
  if (!page.context || page.context.state === "running") return;
  await page.context.resume();
  $("silent").hidden = true;
}

async function callUp(mode, channels) {
  const context = await sounding();
  hangUp();
  presence("busy", "Connecting …");
  const token = sessionStorage.getItem(TOKEN);
  const session = await Session.open(page.avatar.name, {
    ...(token ? { token } : {}),
    mode,
    audio: { format: "s16le", rate: context.sampleRate, channels },
    picture: { format: page.h264 ? "h264" : "jpeg" },
  });
  page.mode = mode;
  page.session = session;
  page.player = new Player(context, $("picture"), session.ready, noH264);
  page.player.onFirst = () => ($("stage").dataset.state = "on"); // until then the poster is better than nothing
  session.onSound = heard;
  session.onPicture = (header, data, stale) => page.player.picture(header, data, stale);
  session.onText = told;
  session.onEnd = ended;
  page.timers.stats = setInterval(askStats, STATS_MS);
  showControls();
  return session;
}

function heard(header, samples) {
  page.player.sound(header, samples);
  const file = page.file;
  if (!file) return;
  file.begun ||= samples.some((value) => value !== 0);
  if (file.begun && !file.done) file.spoken += 1;
  if (header.last) file.done = true;
  showProgress();
}

function told(message) {
  if (message.type === "stats") showFigures(message);
  else if (message.type === "config") page.player.configure(message.codec);
  else if (message.type === "spoken" && page.mode === "pushed") finished();
}

function askStats() {
  page.askedAt = performance.now();
  page.session.say("stats");
}

/** A browser that says it knows H.264 and then does not: JPEG from now on. */
function noH264() {
  if (!page.h264) return;
  page.h264 = false;
  hangUp();
  complain(new Error("This browser could not show the pictures as H.264; it is JPEG from now on. Please start again."));
}

function ended(error) {
  const passing = error && PASSING.has(error.code) && !page.busy; // busy: something else has begun, nobody goes on
  const stream = passing ? page.microphone?.release() : null;
  if (stream) page.microphone = null; // hanging up would switch it off
  hangUp();
  if (stream) doing(() => speakAgain(stream));
  else if (error) complain(error);
}

function hangUp() {
  for (const timer of Object.values(page.timers)) clearInterval(timer);
  if (page.session) {
    page.session.onEnd = () => {};
    page.session.close();
    page.player.close();
  }
  page.microphone?.stop();
  Object.assign(page, { session: null, player: null, microphone: null, mode: null, file: null });
  presence("off", "Not connected");
  showControls();
  showProgress();
  forgetFigures();
}

/** One thing at a time: buttons that are pressed again meanwhile do nothing, and errors are shown. */
async function doing(work) {
  if (page.busy || !page.avatar) return;
  page.busy = true;
  $("message").hidden = true;
  try {
    await work();
  } catch (error) {
    hangUp();
    complain(error);
  } finally {
    page.busy = false;
  }
}

// --- microphone -------------------------------------------------------------------------------------------------------

async function speak() {
  const stream = await microphoneStream();
  try {
    await speakInto(stream);
  } catch (error) {
    stopTracks(stream);
    throw error;
  }
}

async function speakInto(stream) {
  const session = await callUp("live", 1);
  const microphone = await listening(stream, session);
  if (page.session !== session) {
    microphone.release();
    throw new SessionError("lost", "The connection to the server was lost.");
  }
  page.microphone = microphone;
  presence("live", "Listening to you");
  say(`The microphone is on, ${page.avatar.name} says what you say.`);
}

/** The connection was lost while somebody spoke: try to get another, until there is one or the microphone is stopped. */
async function speakAgain(stream) {
  const waiting = { stop: () => stopTracks(stream), release: () => stream };
  say("The connection was lost. Trying again.");
  for (const pause of PAUSES_MS) {
    Object.assign(page, { microphone: waiting, mode: "live" });
    presence("busy", "Connection lost. Trying again …");
    showControls();
    await later(pause);
    if (page.microphone !== waiting) return;
    page.microphone = null;
    try {
      await speakInto(stream);
      return;
    } catch (error) {
      if (PASSING.has(error.code)) continue;
      stopTracks(stream);
      throw error;
    }
  }
  stopTracks(stream);
  throw new SessionError("gone", "The connection was lost, and the server does not come back. Is it still running?");
}

function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}

async function microphoneStream() {
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The microphone was not allowed. Allow it for this page, then try again.",
      NotFoundError: "No microphone was found. Connect one, then try again.",
      NotReadableError: "The microphone cannot be opened. Another program may be using it.",
    };
    throw new Error(reasons[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}

async function listening(stream, session) {
  const { context } = page;
  await context.audioWorklet.addModule("/static/capture.js");
  const [track] = stream.getTracks();
  if (track.readyState === "ended") throw new Error(MICROPHONE_GONE); // while the session began: nobody was told
  const source = context.createMediaStreamSource(stream);
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  capture.port.onmessage = ({ data }) => {
    session.push(data);
    const power = data.reduce((sum, value) => sum + value * value, 0) / data.length;
    $("level").style.setProperty("--level", Math.min(1, Math.sqrt(power) * 5).toFixed(2));
  };
  source.connect(capture);
  track.onended = () => ended(new Error(MICROPHONE_GONE));
  return {
    stop() {
      stopTracks(this.release());
    },
    /** Let go of the stream, which stays on. */
    release() {
      source.disconnect();
      capture.port.onmessage = null;
      track.onended = null;
      return stream;
    },
  };
}

// --- sound files ------------------------------------------------------------------------------------------------------

async function play(file) {
  const context = await sounding();
  if (file.size > FILE_BYTES) {
    throw new Error(`${file.name} is larger than ${FILE_BYTES / 2 ** 20} MB: for long films there is "lipwright render".`);
  }
  presence("busy", "Reading the file …");
  const sound = await decoded(context, file);
  const channels = Math.min(sound.numberOfChannels, 2);
  const kept = page.mode === "pushed" && page.session.ready.audio.channels === channels;
  const session = kept ? page.session : await callUp("pushed", channels);
  if (kept) stopFile();
  presence("live", "Speaking");
  page.file = { name: file.name, seconds: sound.duration, spoken: 0, begun: false, done: false };
  showProgress();
  say(`${page.avatar.name} speaks ${file.name}.`);
  pushAhead(session, interleaved(sound, channels), context.sampleRate * channels);
}

async function decoded(context, file) {
  try {
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} holds no sound that this browser can read. WAV, MP3, M4A and OGG mostly work.`);
  }
}

function interleaved(sound, channels) {
  const samples = new Float32Array(sound.length * channels);
  for (let channel = 0; channel < channels; channel++) {
    const values = sound.getChannelData(channel);
    for (let i = 0; i < values.length; i++) samples[i * channels + channel] = values[i];
  }
  return samples;
}

/** Send the sound, never more than some seconds ahead of its time. */
function pushAhead(session, samples, perSecond) {
  const began = performance.now();
  const piece = Math.round(PIECE_SECONDS * perSecond);
  let sent = 0;
  const push = () => {
    const until = ((performance.now() - began) / 1000 + AHEAD_SECONDS) * perSecond;
    for (; sent < samples.length && sent < until; sent += piece) session.push(samples.subarray(sent, sent + piece));
    if (sent < samples.length) return;
    clearInterval(page.timers.push);
    session.say("end");
  };
  clearTimeout(page.timers.idle);
  clearInterval(page.timers.push);
  page.timers.push = setInterval(push, (PIECE_SECONDS * 1000) / 2);
  push();
}

function stopFile() {
  clearInterval(page.timers.push);
  interruptSession();
  page.file = null;
  showProgress();
}

/** All of the file was spoken; the avatar stays alive for a while. */
function finished() {
  if (!page.file?.done) return;
  say(`${page.file.name} was spoken.`);
  presence("live", "Ready");
  clearTimeout(page.timers.idle);
  page.timers.idle = setTimeout(hangUp, IDLE_MS);
}

// --- interrupt --------------------------------------------------------------------------------------------------------

function interruptSession() {
  page.session.interrupt();
  page.player.clear();
}

function interrupt() {
  if (!page.session) return;
  if (page.mode === "pushed") {
    stopFile();
    presence("live", "Ready");
    clearTimeout(page.timers.idle);
    page.timers.idle = setTimeout(hangUp, IDLE_MS);
  } else {
    interruptSession();
  }
  say("Interrupted.");
}

// --- what people do ---------------------------------------------------------------------------------------------------

$("microphone").addEventListener("click", () => {
  if (page.mode === "live") {
    hangUp();
    say("The microphone is off.");
  } else {
    doing(speak);
  }
});
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) doing(() => play(file));
  $("file").value = "";
});
$("interrupt").addEventListener("click", interrupt);
$("sound").addEventListener("change", () => {
  page.soundFor[page.mode ?? "pushed"] = $("sound").checked;
  showControls();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") interrupt();
  else allowSound();
});
document.addEventListener("pointerup", allowSound);
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value);
  $("message").hidden = true;
  loadAvatars();
});

let dragDepth = 0;
function dragging(depth) {
  dragDepth = Math.max(0, depth);
  document.body.classList.toggle("dropping", dragDepth > 0);
}
document.addEventListener("dragenter", () => dragging(dragDepth + 1));
document.addEventListener("dragleave", () => dragging(dragDepth - 1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragging(0);
  const [file] = event.dataTransfer.files;
  if (file) doing(() => play(file));
});
window.addEventListener("pagehide", hangUp);

for (const button of ["microphone", "choose"]) $(button).disabled = true;
showControls();
page.h264 = await knowsH264();
await loadAvatars();
