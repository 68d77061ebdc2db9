// What there is to say of one entry: what dominates it and how surely, its values, curves, and how to repeat it.
function choose(entry, isAsked) {
  state.entry = entry;
  for (const row of byId("entries").tBodies[0].rows) row.classList.toggle("chosen", Number(row.dataset.entry) === entry);
  showFront();
  showDetails();
  if (isAsked) byId("details").focus({ preventScroll: false });
}

function showDetails() {
  const entry = state.entry;
  const { entries, values } = part();
  if (entry === null) return byId("details").replaceChildren();
  const close = make("button", { type: "button", onclick: () => choose(null, false) }, "Close");
  const blocks = [make("h3", {}, entries.label[entry], " ", close)];
  blocks.push(standing(entry));
  const rows = part().objectives.map((one, index) => (isThere(values[index][entry]) ? [one.name, index] : null)).filter(Boolean);
  const cells = rows.map(([name, index]) => make("tr", {}, make("th", { scope: "row" }, `${name} ${arrow(index)}`), measured(index, entry)));
  blocks.push(folded("All measurements", make("table", {}, make("tbody", {}, ...cells))));
  const curves = part().curves[entry] || [];
  if (curves.length) blocks.push(folded("Training loss", lines(curves, "epoch", part().epochs[entry]), true));
  for (const one of part().severities) {
    const line = one.values.map((column) => column[entry]);
    if (line.filter(isThere).length > 1) {
      blocks.push(folded(`${one.benchmark}: ${one.metric} by severity`, lines([line.map((value) => 100 * value)], "severity", one.severities)));
    }
  }
  const keys = Object.entries(entries.repeat[entry]).map(([name, value]) => ` ${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  const repeat = `{\n${keys.join(",\n")}\n}`;
  blocks.push(folded("Repeat it", make("div", {},
    make("p", {}, "Save this as experiment.yaml (JSON is YAML; name folders of data where yours lie), then"),
    make("pre", {}, "pixmix-ray run experiment.yaml"), make("pre", {}, repeat)), true));
  blocks.push(make("p", { class: "note" }, `trials: ${entries.trials[entry].join(", ")}`));
  byId("details").replaceChildren(...blocks);
}

function folded(title, content, isOpen = false) {
  return make("details", { open: isOpen }, make("summary", {}, title), content);
}

function standing(entry) {
  const indices = state.chosen;
  const missing = indices.filter((index) => !isThere(part().values[index][entry]));
  if (missing.length) return make("p", {}, `It lacks ${missing.map((index) => objective(index).name).join(", ")}, so it is not compared.`);
  const others = part().entries.label.map((_, other) => other)
    .filter((other) => other !== entry && comparable(other, entry) && isComplete(other, indices));
  const [drawn, costs] = [indices.map(drawsOf), costsOf(indices)];
  const rivals = others.map((other) => [other, surely(other, entry, drawn), dominates(other, entry, costs)]);
  const above = rivals.filter(([, share, is]) => is || share > 0.05).sort((a, b) => Number(b[2]) - Number(a[2]) || b[1] - a[1]);
  const block = make("div", {});
  const isOn = !rivals.some(([, , is]) => is);
  block.append(make("p", {}, isOn ? "Nothing dominates it in the chosen objectives." : "It is dominated."));
  if (above.length) {
    const items = above.slice(0, 8).map(([other, share, is]) => make("li", {},
      make("button", { type: "button", onclick: () => choose(other, true) }, part().entries.label[other]),
      ` ${is ? "dominates it" : "might dominate it"}${share === null ? "; the share of draws is not known for these objectives" : `: in ${percent(share)} of the draws`}`));
    block.append(make("ul", {}, ...items));
    if (above.length > 8) block.append(make("p", { class: "note" }, `and ${above.length - 8} more`));
  }
  const below = others.filter((other) => dominates(entry, other, costs)).length;
  block.append(make("p", { class: "note" }, `It dominates ${below} of ${others.length}.`));
  return block;
}

function lines(series, name, places) {
  const [width, height, left] = [420, 170, 48];
  const longest = Math.max(...series.map((line) => line.length));
  const bounds = range(series.flat());
  const across = (at) => left + (longest > 1 ? (at / (longest - 1)) * (width - left - 12) : 0);
  const up = (value) => height - 34 - ((value - bounds[0]) / (bounds[1] - bounds[0])) * (height - 46);
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img", "aria-label": `a line over ${name}` });
  for (const tick of ticks(bounds, 4)) {
    picture.append(draw("line", { class: "axis", x1: left, x2: width - 12, y1: up(tick), y2: up(tick) }));
    picture.append(draw("text", { class: "soft", x: left - 5, y: up(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  for (const line of series) {
    const path = line.map((value, at) => (isThere(value) ? `${across(at).toFixed(1)},${up(value).toFixed(1)}` : null)).filter(Boolean);
    picture.append(draw("polyline", { class: "track on", points: path.join(" ") }));
  }
  picture.append(draw("text", { class: "soft", x: left, y: height - 18 }, String(places[0])));
  picture.append(draw("text", { class: "soft", x: width - 12, y: height - 18, "text-anchor": "end" }, String(places[places.length - 1])));
  picture.append(draw("text", { class: "soft", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, name));
  return picture;
}
