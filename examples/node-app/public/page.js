// Keeps one WebSocket to the host this page came from, measures echoes on it,
// and shows what the app said of the connection.

const ECHO_EVERY_MS = 500;
const ECHOES_SHOWN = 60;
const LOG_LINES = 200;
const BACKOFF_MS = { first: 500, most: 15_000 };
const SVG = "http://www.w3.org/2000/svg";

const element = (id) => document.getElementById(id);
const url = new URL("/live", location.href);
url.protocol = location.protocol === "https:" ? "wss:" : "ws:";

let socket;
let openedAt;
let attempt = 0;
let retryAt;
let echoes = []; // milliseconds; null where a connection was lost
let awaited = new Map(); // number of an echo -> when it was sent
let sequence = 0;

function connect() {
  retryAt = undefined;
  awaited = new Map();
  show("connecting", attempt === 0 ? "Connecting" : "Reconnecting");
  const mine = new WebSocket(url);
  socket = mine;
  mine.onmessage = ({ data }) => {
    if (openedAt === undefined) return greeted(JSON.parse(data));
    received(data);
  };
  mine.onclose = ({ code }) => lost(code);
}

function greeted(hello) {
  openedAt = performance.now();
  attempt = 0;
  element("client-ip").textContent = hello.client_ip;
  element("name").textContent = hello.hello;
  element("transport").textContent =
    url.protocol === "wss:" ? "WSS, encrypted" : "WS, not encrypted";
  element("headers").replaceChildren(...Object.entries(hello.headers).map(headerRow));
  show("open", "Connected");
  log("event", "open", `${hello.hello} says hello`);
}

function received(data) {
  const message = JSON.parse(data);
  if (message.echo === undefined) return log("received", "received", message.text);
  const sentAt = awaited.get(message.echo);
  awaited.delete(message.echo);
  if (sentAt !== undefined) record(performance.now() - sentAt);
}

function lost(code) {
  if (openedAt !== undefined) {
    log("lost", "lost", `connection closed, code ${code}`);
    record(null);
  }
  openedAt = undefined;
  const most = Math.min(BACKOFF_MS.first * 2 ** attempt, BACKOFF_MS.most);
  attempt += 1;
  // At least half of it, the rest at random: many pages must not return at once.
  retryAt = performance.now() + most * (0.5 + Math.random() / 2);
  show("closed", "Offline");
  tick();
}

function show(state, words) {
  document.body.dataset.state = state;
  element("state").textContent = words;
  element("send").disabled = state !== "open";
  element("retry").hidden = state !== "closed";
  element("countdown").textContent = "";
}

function tick() {
  const now = performance.now();
  if (openedAt !== undefined) element("uptime").textContent = duration(now - openedAt);
  if (retryAt === undefined) return;
  if (now >= retryAt) return connect();
  const seconds = Math.ceil((retryAt - now) / 1000);
  element("countdown").textContent = `attempt ${attempt + 1} in ${seconds} s`;
}

function sendEcho() {
  if (openedAt === undefined || document.hidden) return;
  sequence += 1;
  awaited.set(sequence, performance.now());
  socket.send(JSON.stringify({ echo: sequence }));
}

function record(milliseconds) {
  echoes = [...echoes, milliseconds].slice(-ECHOES_SHOWN);
  const sorted = echoes.filter((echo) => echo !== null).sort((a, b) => a - b);
  if (sorted.length === 0) return;
  const most = sorted.at(-1);
  const median = sorted[Math.floor(sorted.length / 2)];
  if (milliseconds !== null) element("rtt-last").textContent = readable(milliseconds);
  element("rtt-median").textContent = readable(median);
  element("rtt-max").textContent = readable(most);
  draw(roundUp(most));
  element("chart").setAttribute(
    "aria-label",
    `The last ${sorted.length} echoes: median ${readable(median)}, slowest ${readable(most)}`,
  );
}

function draw(top) {
  element("scale-top").textContent = readable(top);
  element("scale-middle").textContent = readable(top / 2);
  const slot = 600 / ECHOES_SHOWN;
  const start = 600 - echoes.length * slot;
  const bars = echoes.map((echo, index) => {
    const height = echo === null ? 0 : Math.max((echo / top) * 120, 1.5);
    const bar = document.createElementNS(SVG, "rect");
    const box = {
      x: start + index * slot + 1.5,
      y: 120 - height,
      width: slot - 3,
      height,
      rx: 1.5,
    };
    for (const [name, value] of Object.entries(box)) bar.setAttribute(name, value.toFixed(2));
    bar.setAttribute("class", "bar");
    return bar;
  });
  element("bars").replaceChildren(...bars);
}

/** The next of 1, 2, 5, 10, 20, ... so that the scale rarely jumps. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

function readable(milliseconds) {
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

function duration(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return [h && `${h} h`, (h || m) && `${m} min`, `${s} s`].filter(Boolean).join(" ");
}

function headerRow([name, value]) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  const cell = document.createElement("td");
  cell.textContent = value;
  row.append(head, cell);
  return row;
}

function log(kind, what, words) {
  const list = element("log");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  const line = document.createElement("li");
  line.className = kind;
  const now = new Date();
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString("en-GB");
  line.append(time, span("what", what), span("text", words));
  list.append(line);
  while (list.childElementCount > LOG_LINES) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function span(name, words) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = words;
  return made;
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = element("message");
  if (openedAt === undefined || input.value === "") return;
  log("sent", "sent", input.value);
  socket.send(JSON.stringify({ text: input.value }));
  input.value = "";
});
element("retry").addEventListener("click", () => {
  element("message").focus();
  connect();
});

connect();
setInterval(tick, 250);
setInterval(sendEcho, ECHO_EVERY_MS);
