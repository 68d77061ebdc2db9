"use strict";
// What all sections share. Names in the data may be anybody's: they become text nodes and never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { part: 0, chosen: [], sort: null, down: false, filter: "", all: false, entry: null, x: 0, y: 1 };
const FIRST_ROWS = 200;
const DOTS = 2000;  // points that are drawn; more would be a cloud

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const part = () => data.parts[state.part];
const objective = (index) => part().objectives[index];
const isThere = (value) => value !== null && value !== undefined;
const cost = (index, value) => (objective(index).better === "lower" ? value : -value);
const arrow = (index) => (objective(index).better === "lower" ? "↓" : "↑");

function number(index, value) {
  const { factor, decimals } = objective(index);
  return isThere(value) ? (factor * value).toFixed(decimals) : "–";
}

function percent(share) {
  if (!isThere(share) || Number.isNaN(share)) return "–";
  const text = `${(100 * share).toFixed(0)} %`;
  if (share > 0 && share < 1) return text === "100 %" ? ">99 %" : text === "0 %" ? "<1 %" : text;
  return text;
}

function describe(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

function list(id, lines) {
  byId(id).replaceChildren(...lines.map((text) => make("li", {}, text)));
}

function options(select, names, chosen) {
  select.replaceChildren(...names.map((name, index) => make("option", { value: index, selected: index === chosen }, name)));
}

// The draws of an objective as a function of entry and draw, or null where none are here.
const unpacked = new Map();
function drawsOf(index) {
  const stored = part().draws;
  const place = stored ? stored.objectives.indexOf(index) : -1;
  if (place < 0) return null;
  const key = `${state.part}/${index}`;
  if (!unpacked.has(key)) {
    const text = atob(stored.data[place]);
    const bytes = new Int8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    unpacked.set(key, bytes);
  }
  const bytes = unpacked.get(key);
  const scale = stored.scale[place];
  const values = part().values[index];
  return { count: stored.count, at: (entry, draw) => values[entry] + (scale[entry] * bytes[entry * stored.count + draw]) / 127 };
}

// In which share of the draws one entry dominates another in some objectives; null where that is not known.
function surely(better, worse, indices) {
  const drawn = indices.map(drawsOf);
  if (drawn.some((one) => one === null) || !drawn.length) return null;
  let count = 0;
  for (let draw = 0; draw < drawn[0].count; draw += 1) {
    let isStrict = false;
    let holds = true;
    for (let place = 0; place < indices.length && holds; place += 1) {
      const mine = cost(indices[place], drawn[place].at(better, draw));
      const other = cost(indices[place], drawn[place].at(worse, draw));
      if (mine > other) holds = false;
      else if (mine < other) isStrict = true;
    }
    if (holds && isStrict) count += 1;
  }
  return count / drawn[0].count;
}

const isComplete = (entry, indices) => indices.every((index) => isThere(part().values[index][entry]));
const comparable = (one, other) => part().entries.dataset[one] === part().entries.dataset[other];

function dominates(one, other, indices) {
  let isStrict = false;
  for (const index of indices) {
    const mine = cost(index, part().values[index][one]);
    const theirs = cost(index, part().values[index][other]);
    if (mine > theirs) return false;
    if (mine < theirs) isStrict = true;
  }
  return isStrict;
}

// Which entries nothing dominates in some objectives; entries that lack one are not among them.
function frontOf(indices) {
  const count = part().entries.label.length;
  const places = [];
  for (let entry = 0; entry < count; entry += 1) if (indices.length && isComplete(entry, indices)) places.push(entry);
  const sums = new Map(places.map((entry) => [entry, indices.reduce((sum, index) => sum + cost(index, part().values[index][entry]), 0)]));
  places.sort((a, b) => sums.get(a) - sums.get(b));  // what dominates an entry comes before it
  const front = [];
  for (const entry of places) {
    if (!front.some((other) => comparable(other, entry) && dominates(other, entry, indices))) front.push(entry);
  }
  return new Set(front);
}
