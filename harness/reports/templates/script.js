// Adds to a page that is whole without it: sorting and a filter for long tables, and links into folded parts.
"use strict";
(() => {
  const MOST = 100; // rows of a table that are laid out at once: thousands take a browser seconds at every letter of a filter
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
  const expanded = [];

  const manage = (table) => {
    const body = table.tBodies[0];
    const texts = new Map();
    const state = { rows: [...body.rows], words: [], all: false };
    const count = document.createElement("output");
    const more = document.createElement("button");

    const textOf = (row) => {
      if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
      return texts.get(row);
    };
    const show = () => {
      const found = state.words.length ? state.rows.filter((row) => state.words.every((word) => textOf(row).includes(word))) : state.rows;
      const shown = state.all ? found : found.slice(0, MOST);
      body.replaceChildren(...shown);
      const of = `${found.length.toLocaleString("en")} of ${state.rows.length.toLocaleString("en")}`;
      count.textContent = state.words.length ? of : "";
      more.hidden = shown.length === found.length;
      more.textContent = `the first ${MOST} of ${found.length.toLocaleString("en")} are shown: show all`;
    };
    expanded.push(() => {
      state.all = true;
      show();
    });
    return { table, state, show, count, more };
  };

  const makeSortable = ({ table, state, show }) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const downwards = head.getAttribute("aria-sort") === "ascending";
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
        const keyed = state.rows.map((row) => [valueOf(row, column), row]);
        keyed.sort((a, b) => compare(a[0], b[0]) * (downwards ? -1 : 1));
        state.rows = keyed.map(([, row]) => row);
        show();
      });
    });
  };

  const makeFilterable = ({ table, state, show, count, more }) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    label.className = "filter";
    input.type = "search";
    input.placeholder = "name, metric, verdict";
    count.setAttribute("aria-live", "polite");
    label.append("Filter ", input, count);
    table.parentElement.before(label);
    more.type = "button";
    more.className = "more";
    table.parentElement.after(more);
    more.addEventListener("click", () => {
      state.all = true;
      show();
    });
    input.addEventListener("input", () => {
      state.words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      show();
    });
    show();
  };

  document.querySelectorAll("table.comparisons, table.sla, table.trials, table.recipes").forEach((table) => {
    const rows = table.tBodies[0].rows.length;
    if (rows <= 2) return;
    const managed = manage(table);
    makeSortable(managed);
    if (rows > 12) makeFilterable(managed);
  });

  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", reveal);
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".lead details, details.failure").forEach((part) => (part.open = true));
    expanded.forEach((showAll) => showAll());
  });
  reveal();
})();
