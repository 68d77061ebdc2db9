// The front: a scatter of two objectives, parallel coordinates of all that count, and what there is to say of an entry.
const isNarrow = innerWidth < 600;  // a phone: letters of a wide drawing would be too small there
const WIDTH = isNarrow ? 400 : 560;
const HEIGHT = isNarrow ? 340 : 400;
const EDGE = { left: 62, right: 16, top: 14, bottom: 46 };

function range(values) {
  const [low, high] = extent(values);
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - pad, high + pad];
}

function ticks([low, high], count = 5) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

function showFront() {
  const front = frontOf(state.chosen);
  const lacking = part().entries.label.filter((_, entry) => !isComplete(entry, state.chosen)).length;
  const without = lacking ? `; ${lacking} lack one and are not compared` : "";
  byId("size").textContent = `${front.size} of ${part().entries.label.length} on the front in ${state.chosen.length} objective${state.chosen.length === 1 ? "" : "s"}${without}`;
  showScatter(front);
  showParallel(front);
}

function markAttributes(entry, front, kind) {
  const classes = [kind, front.has(entry) ? "on" : "seen", entry === state.entry ? "chosen" : ""].filter(Boolean).join(" ");
  return { class: classes, "data-entry": entry };
}

function pressed(event) {
  const mark = event.target.closest("[data-entry]");
  if (!mark || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault();
  choose(Number(mark.dataset.entry), true);
}

function named(event) {  // a title is made when the pointer comes: thousands at once take long
  const mark = event.target.closest("[data-entry]");
  if (mark && !mark.firstChild) mark.append(draw("title", {}, mark.getAttribute("aria-label") || part().entries.label[mark.dataset.entry]));
}

function showScatter(front) {
  const { values, low, high } = part();
  const [x, y] = [state.x, state.y];
  const all = part().entries.label.map((_, entry) => entry).filter((entry) => isThere(values[x][entry]) && isThere(values[y][entry]));
  const shown = all.length > DOTS ? all.filter((entry, place) => front.has(entry) || place < DOTS) : all;
  const barred = shown.filter((entry) => front.has(entry) || entry === state.entry);
  const ends = (index) => barred.flatMap((entry) => [low[index][entry], high[index][entry]]);
  const scale = (index) => range([...shown.map((entry) => values[index][entry]), ...ends(index)]);
  const [acrossRange, upRange] = [scale(x), scale(y)];
  const across = (value) => EDGE.left + ((value - acrossRange[0]) / (acrossRange[1] - acrossRange[0])) * (WIDTH - EDGE.left - EDGE.right);
  const up = (value) => HEIGHT - EDGE.bottom - ((value - upRange[0]) / (upRange[1] - upRange[0])) * (HEIGHT - EDGE.top - EDGE.bottom);
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": `${objective(x).name} and ${objective(y).name} of ${shown.length} entries` });
  for (const tick of ticks(acrossRange)) {
    picture.append(draw("line", { class: "axis", x1: across(tick), x2: across(tick), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    picture.append(draw("text", { class: "soft", x: across(tick), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, number(x, tick)));
  }
  for (const tick of ticks(upRange)) {
    picture.append(draw("line", { class: "axis", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: up(tick), y2: up(tick) }));
    picture.append(draw("text", { class: "soft", x: EDGE.left - 6, y: up(tick) + 4, "text-anchor": "end" }, number(y, tick)));
  }
  picture.append(draw("text", { x: (WIDTH + EDGE.left) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, `${objective(x).name} ${arrow(x)} [${objective(x).unit}]`));
  picture.append(draw("text", { x: -(HEIGHT - EDGE.bottom) / 2, y: 14, "text-anchor": "middle", transform: "rotate(-90)" }, `${objective(y).name} ${arrow(y)} [${objective(y).unit}]`));
  for (const entry of barred) {
    const [px, py] = [across(values[x][entry]), up(values[y][entry])];
    if (isThere(low[x][entry])) picture.append(draw("line", { class: "bar", x1: across(low[x][entry]), x2: across(high[x][entry]), y1: py, y2: py }));
    if (isThere(low[y][entry])) picture.append(draw("line", { class: "bar", x1: px, x2: px, y1: up(low[y][entry]), y2: up(high[y][entry]) }));
  }
  for (const entry of shown) {
    const name = part().entries.label[entry];
    const words = `${name}: ${number(x, values[x][entry])}, ${number(y, values[y][entry])}${front.has(entry) ? ", on the front" : ""}`;
    picture.append(draw("circle", {
      ...markAttributes(entry, front, "point"), cx: across(values[x][entry]), cy: up(values[y][entry]), r: 5.5,
      tabindex: shown.length <= FIRST_ROWS || front.has(entry) ? 0 : -1, role: "button", "aria-label": words,
    }));
  }
  if (shown.length <= 12) {
    for (const entry of shown) {
      const at = across(values[x][entry]);
      const isRight = at > WIDTH * 0.75;
      const place = { class: "soft", x: at + (isRight ? -8 : 8), y: up(values[y][entry]) - 7, "text-anchor": isRight ? "end" : "start" };
      picture.append(draw("text", place, short(part().entries.label[entry])));
    }
  }
  byId("scatter").replaceChildren(picture);
}

const short = (text) => (text.length > 26 ? `${text.slice(0, 25)}…` : text);

function showParallel(front) {
  const { values } = part();
  const indices = state.chosen;
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `parallel coordinates of ${indices.length} objectives` });
  const place = (at) => (indices.length > 1 ? 44 + (at * (WIDTH - 88)) / (indices.length - 1) : WIDTH / 2);
  const bounds = indices.map((index) => {
    const [low, high] = extent(values[index]);
    return objective(index).better === "lower" ? [low, high] : [-high, -low];
  });
  const top = 34;
  const bottom = HEIGHT - 70;
  const height = (at, value) => {
    const [best, worst] = bounds[at];
    return worst > best ? top + ((cost(indices[at], value) - best) / (worst - best)) * (bottom - top) : (top + bottom) / 2;
  };
  const entries = part().entries.label.map((_, entry) => entry);
  const shown = entries.length > DOTS ? entries.filter((entry, at) => front.has(entry) || at < DOTS) : entries;
  shown.sort((a, b) => Number(front.has(a)) - Number(front.has(b)) || Number(a === state.entry) - Number(b === state.entry));
  for (const entry of shown) {
    const points = indices.map((index, at) => [place(at), values[index][entry], at]).filter(([, value]) => isThere(value));
    if (!points.length) continue;
    const path = points.map(([x, value, at]) => `${x.toFixed(1)},${height(at, value).toFixed(1)}`).join(" ");
    picture.append(draw("polyline", { ...markAttributes(entry, front, "track"), points: path }));
  }
  indices.forEach((index, at) => {
    picture.append(draw("line", { class: "axis", x1: place(at), x2: place(at), y1: top, y2: bottom }));
    const [best, worst] = bounds[at].map((value) => (objective(index).better === "lower" ? value : -value));
    picture.append(draw("text", { class: "soft", x: place(at), y: top - 8, "text-anchor": "middle" }, number(index, best)));
    picture.append(draw("text", { class: "soft", x: place(at), y: bottom + 16, "text-anchor": "middle" }, number(index, worst)));
    objective(index).label.split("\n").forEach((line, row) => {
      picture.append(draw("text", { x: place(at), y: bottom + 34 + 14 * row, "text-anchor": "middle", "font-size": isNarrow ? 9.5 : 11 }, row === 0 ? `${line} ${arrow(index)}` : line));
    });
  });
  byId("parallel").replaceChildren(picture);
}
