// The table: sorted, filtered, its columns the objectives that count.
const inOrder = new Intl.Collator("en", { numeric: true }).compare;

function matches(entry, words) {
  const { label, search } = part().entries;
  const text = `${label[entry]} ${search[entry]}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function wantedRows() {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const all = part().entries.label.map((_, entry) => entry);
  const rows = words.length ? all.filter((entry) => matches(entry, words)) : all;
  if (state.sort === null) return rows;
  const { label, seeds } = part().entries;
  const key = state.sort === "label" ? (entry) => label[entry]
    : state.sort === "seeds" ? (entry) => seeds[entry]
    : state.sort === "front" ? (entry) => part().front[entry]
    : (entry) => part().values[state.sort][entry];
  const sign = state.down ? -1 : 1;
  return rows.sort((a, b) => {
    const one = key(a);
    const other = key(b);
    if (!isThere(one) || !isThere(other)) return Number(!isThere(one)) - Number(!isThere(other));  // missing ones last
    return sign * (typeof one === "string" ? inOrder(one, other) : one - other);
  });
}

function heading(name, key, title) {
  const isSorted = state.sort === key;
  const label = `${name}${isSorted ? (state.down ? " ▾" : " ▴") : ""}`;
  const sorted = isSorted ? (state.down ? "descending" : "ascending") : "none";
  const press = () => {
    state.down = isSorted ? !state.down : false;
    state.sort = key;
    showTable();
    byId("entries").querySelector(`[data-key="${key}"]`).focus();
  };
  return make("th", { scope: "col", "aria-sort": sorted }, make("button", { type: "button", title, "data-key": key, onclick: press }, label));
}

function measured(index, entry) {
  const { values, low, high, marks, fewer } = part();
  const value = values[index][entry];
  if (!isThere(value)) return make("td", {}, "–");
  const mark = marks[index] ? ["", "best", "tied"][marks[index][entry]] : "";
  const cell = make("td", { class: mark || null }, number(index, value));
  if (isThere(low[index][entry])) {
    const half = (high[index][entry] - low[index][entry]) / 2;
    cell.title = `95 % interval ${number(index, low[index][entry])} to ${number(index, high[index][entry])}`;
    cell.append(make("span", { class: "half" }, ` ± ${number(index, half)}`));
  }
  const count = fewer[index] ? fewer[index][entry] : 0;
  if (count) cell.append(make("span", { class: "half" }, ` (${count} of ${part().entries.seeds[entry]} seeds)`));
  if (mark) cell.append(make("span", { class: "half" }, mark === "best" ? " *" : " ="));
  return cell;
}

function showTable() {
  const rows = wantedRows();
  const shown = state.all ? rows : rows.slice(0, FIRST_ROWS);
  const hasFront = part().front.some(isThere);
  const head = make("tr", {}, heading("method", "label", "sort by name"), heading("seeds", "seeds", "sort by seeds"));
  for (const index of state.chosen) head.append(heading(`${objective(index).label} ${arrow(index)}`, index, objective(index).name));
  if (hasFront) head.append(heading("on the front", "front", "share of the draws in which nothing dominates it, in the page's first objectives"));
  const body = shown.map((entry) => {
    const name = make("button", { type: "button", onclick: () => choose(entry, true) }, part().entries.label[entry]);
    const row = make("tr", { class: entry === state.entry ? "chosen" : null, "data-entry": entry }, make("th", { scope: "row" }, name), make("td", {}, String(part().entries.seeds[entry])));
    for (const index of state.chosen) row.append(measured(index, entry));
    if (hasFront) row.append(make("td", {}, percent(part().front[entry])));
    return row;
  });
  byId("entries").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
  byId("more").hidden = shown.length === rows.length;
  byId("shown").textContent = `${rows.length} of ${part().entries.label.length} rows${shown.length < rows.length ? `, the first ${shown.length} shown` : ""}`;
}

function showObjectives() {
  const boxes = part().objectives.map((one, index) => {
    const box = make("input", { type: "checkbox", value: index, checked: state.chosen.includes(index) });
    box.addEventListener("change", () => {
      state.chosen = part().objectives.map((_, place) => place).filter((place) => (place === index ? box.checked : state.chosen.includes(place)));
      showTable();
      showFront();
    });
    return make("label", {}, box, ` ${one.name} ${arrow(index)}`);
  });
  byId("objectives").replaceChildren(byId("objectives").firstElementChild, ...boxes);
}
