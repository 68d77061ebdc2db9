// The other sections, and what happens when the page is opened.
function showConditions() {
  const one = part().conditions[Number(byId("benchmark").value)];
  const table = byId("by-condition");
  if (!one) return table.replaceChildren(make("caption", {}, "No benchmark with conditions was measured."));
  const rows = wantedRows().slice(0, FIRST_ROWS);
  const [low, high] = extent(one.values.flat());
  const head = make("tr", {}, make("th", { scope: "col" }, "method"), ...one.names.map((name) => make("th", { scope: "col" }, name.replaceAll("_", " "))));
  const body = rows.map((entry) => make("tr", {}, make("th", { scope: "row" }, part().entries.label[entry]),
    ...one.values.map((column) => {
      const value = column[entry];
      if (!isThere(value)) return make("td", {}, "–");
      const cell = make("td", {}, (one.factor * value).toFixed(1));
      cell.style.backgroundColor = `rgba(var(--heat), ${(0.55 * (value - low)) / (high - low || 1)})`;
      return cell;
    })));
  table.replaceChildren(make("caption", { class: "note" }, `${one.metric}, ${one.better} is better; means over seeds`), make("thead", {}, head), make("tbody", {}, ...body));
}

function showPaper() {
  const one = data.paper[Number(byId("paper-table").value)];
  if (!one) return;
  const depth = Math.max(...one.columns.map((column) => column.header.length));
  const padded = one.columns.map((column) => [...Array(depth - column.header.length).fill(""), ...column.header]);
  const levels = Array.from({ length: depth }, (_, level) => {
    const cells = [];
    for (let start = 0; start < padded.length;) {
      let end = start + 1;
      const same = (at) => padded[at].slice(0, level + 1).join("\n") === padded[start].slice(0, level + 1).join("\n");
      while (end < padded.length && padded[start][level] && level < depth - 1 && same(end)) end += 1;
      cells.push(make("th", { scope: end - start > 1 ? "colgroup" : "col", colspan: end - start }, padded[start][level]));
      start = end;
    }
    return make("tr", {}, ...cells);
  });
  const body = one.rows.map((row) => make("tr", {}, ...row.map(([text, mark], at) => (at === 0 && text
    ? make("th", { scope: "row" }, text)
    : make("td", { class: [mark, one.columns[at].number ? "" : "text"].filter(Boolean).join(" ") || null }, mark === "differs" ? `≠ ${text}` : text)))));
  byId("published").replaceChildren(make("thead", {}, ...levels), make("tbody", {}, ...body));
  byId("paper-caption").textContent = one.caption;
  list("paper-notes", one.notes);
}

function showFailures() {
  if (!data.failures.length) return byId("failed").replaceChildren(make("caption", {}, "None."));
  const head = make("tr", {}, ...["trial", "cell", "reason"].map((name) => make("th", { scope: "col", class: "text" }, name)));
  const body = data.failures.map((row) => make("tr", {}, ...row.map((text) => make("td", { class: "text" }, text || ""))));
  byId("failed").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

// Another page's data: the same names, differences in standard errors of both; pictures are not paired here.
async function compareWith(file) {
  const say = (text) => { byId("compared").textContent = text; byId("changes").replaceChildren(); };
  let other;
  try {
    const found = new DOMParser().parseFromString(await file.text(), "text/html").getElementById("data");
    other = JSON.parse(found.textContent);
    if (!Array.isArray(other.parts)) throw new TypeError("no parts");
  } catch {
    return say(`${file.name} is not a report.html of pixmix-ray: drop one that "pixmix-ray report" wrote.`);
  }
  const theirs = other.parts[0];
  const places = new Map(theirs.entries.label.map((label, entry) => [`${label}\n${theirs.entries.dataset[entry]}`, entry]));
  const names = new Map(theirs.objectives.map((one, index) => [one.name, index]));
  const rows = [];
  part().entries.label.forEach((label, entry) => {
    const twin = places.get(`${label}\n${part().entries.dataset[entry]}`);
    if (twin === undefined) return;
    for (const index of state.chosen) {
      const their = names.get(objective(index).name);
      if (their === undefined) continue;
      const [mine, value] = [part().values[index][entry], theirs.values[their][twin]];
      if (!isThere(mine) || !isThere(value)) continue;
      const halves = [[part(), index, entry], [theirs, their, twin]].map(([one, at, who]) => (isThere(one.low[at][who]) ? (one.high[at][who] - one.low[at][who]) / 2 : NaN));
      const half = Math.hypot(...halves);
      const verdict = Number.isNaN(half) ? "not known" : Math.abs(value - mine) <= half ? "no significant difference" : cost(index, value) < cost(index, mine) ? "better there" : "worse there";
      rows.push(make("tr", {}, make("th", { scope: "row" }, label), make("td", { class: "text" }, objective(index).name),
        make("td", {}, number(index, mine)), make("td", {}, number(index, value)), make("td", {}, number(index, value - mine)), make("td", { class: "text" }, verdict)));
    }
  });
  const head = make("tr", {}, ...["method", "objective", "here", "there", "difference", "at 95 %, uncorrected"].map((name) => make("th", { scope: "col" }, name)));
  say(rows.length ? `${file.name}: ${other.title}, made ${other.made_at}. To compare on the same pictures: pixmix-ray compare A B.` : `${file.name} has no method in common with this page.`);
  if (rows.length) byId("changes").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

function showPart(index) {
  state.part = index;
  state.chosen = [...part().chosen];
  state.sort = null;
  state.entry = null;
  [state.x, state.y] = [state.chosen[0] ?? 0, state.chosen[1] ?? state.chosen[0] ?? 0];
  const names = part().objectives.map((one, at) => `${one.name} ${arrow(at)}`);
  options(byId("x"), names, state.x);
  options(byId("y"), names, state.y);
  options(byId("benchmark"), part().conditions.map((one) => `${one.benchmark}: ${one.metric}`), 0);
  list("claims", part().claims);
  byId("caption").textContent = part().caption;
  list("notes", part().notes);
  showTable();
  performance.mark("table");
  showObjectives();
  setTimeout(() => {  // the table is there first
    showFront();
    showDetails();
    showConditions();
    document.body.dataset.ready = "yes";
  });
}

function follow() {  // only where the page is served: a sweep that runs changes what it shows
  const every = 5000;
  const look = async () => {
    try {
      const stamp = await (await fetch("stamp", { cache: "no-store" })).text();
      if (stamp !== data.live) return location.reload();
    } catch { /* the server has gone: the page stays as it is */ }
    setTimeout(look, every);
  };
  setTimeout(look, every);
}

byId("title").textContent = data.title;
describe(byId("facts"), data.overview);
describe(byId("origin"), data.provenance);
byId("variants").hidden = data.parts.length < 2;
options(byId("part"), data.parts.map((one) => one.label || "all"), 0);
byId("part").addEventListener("change", (event) => showPart(Number(event.target.value)));
byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; showTable(); showConditions(); });
byId("more").addEventListener("click", () => { state.all = true; showTable(); });
byId("x").addEventListener("change", (event) => { state.x = Number(event.target.value); showFront(); });
byId("y").addEventListener("change", (event) => { state.y = Number(event.target.value); showFront(); });
byId("benchmark").addEventListener("change", showConditions);
for (const id of ["scatter", "parallel"]) {
  byId(id).addEventListener("click", pressed);
  byId(id).addEventListener("keydown", pressed);
  byId(id).addEventListener("pointerover", named);
}
options(byId("paper-table"), data.paper.map((one) => one.title), 0);
byId("paper-table").addEventListener("change", showPaper);
byId("other").addEventListener("change", (event) => { if (event.target.files[0]) compareWith(event.target.files[0]); });
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) { compareWith(event.dataTransfer.files[0]); byId("compare").scrollIntoView(); }
});
showPart(0);
showPaper();
showFailures();
if (data.live) follow();
