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

// The least and the greatest of many numbers; more than 100,000 are too many arguments for Math.min.
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!isThere(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}

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

// Costs of some objectives, lower is better: an array of entries each, NaN where one lacks it.
const signOf = (index) => (objective(index).better === "lower" ? 1 : -1);
function costsOf(indices) {
  return indices.map((index) => {
    const sign = signOf(index);
    return Float64Array.from(part().values[index], (value) => (isThere(value) ? sign * value : NaN));
  });
}

// The drawn costs of an objective as a function of entry and draw, or null where none are here.
const unpacked = new Map();
function drawsOf(index) {
  const stored = part().draws;
  const place = stored ? stored.objectives.indexOf(index) : -1;
  if (place < 0) return null;
  const key = `${state.part}/${index}`;
  if (!unpacked.has(key)) {
    const text = atob(stored.data[place]);
    unpacked.set(key, Int8Array.from(text, (letter) => letter.charCodeAt(0)));
  }
  const [bytes, scale, values, sign] = [unpacked.get(key), stored.scale[place], part().values[index], signOf(index)];
  return (entry, draw) => sign * (values[entry] + (scale[entry] * bytes[entry * stored.count + draw]) / 127);
}

// In which share of the draws one entry dominates another; null where an objective has no draws.
function surely(better, worse, drawn) {
  if (drawn.some((one) => one === null) || !drawn.length) return null;
  const draws = part().draws.count;
  let count = 0;
  for (let draw = 0; draw < draws; draw += 1) {
    let isStrict = false;
    let holds = true;
    for (let place = 0; place < drawn.length && holds; place += 1) {
      const mine = drawn[place](better, draw);
      const other = drawn[place](worse, draw);
      if (mine > other) holds = false;
      else if (mine < other) isStrict = true;
    }
    if (holds && isStrict) count += 1;
  }
  return count / draws;
}

const isComplete = (entry, indices) => indices.every((index) => isThere(part().values[index][entry]));
const comparable = (one, other) => part().entries.dataset[one] === part().entries.dataset[other];

function dominates(one, other, costs) {
  let isStrict = false;
  for (const cost of costs) {
    if (cost[one] > cost[other]) return false;
    if (cost[one] < cost[other]) isStrict = true;
  }
  return isStrict;
}

// Which entries nothing dominates in some objectives; entries that lack one are not among them.
function frontOf(indices) {
  const costs = costsOf(indices);
  const sums = Float64Array.from(part().entries.label, (_, entry) => costs.reduce((sum, cost) => sum + cost[entry], 0));
  const places = [...sums.keys()].filter((entry) => indices.length && !Number.isNaN(sums[entry]));
  places.sort((a, b) => sums[a] - sums[b]);  // what dominates an entry comes before it
  const front = [];
  for (const entry of places) {
    if (!front.some((other) => dominates(other, entry, costs) && comparable(other, entry))) front.push(entry);
  }
  return new Set(front);
}
