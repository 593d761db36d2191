"use strict";
// The gallery: rows come in chunks (scripts that call RoomTours.chunk, since file:// pages may not fetch), are filtered
// and sorted here, and shown a page at a time. Nothing from the data is ever put in as HTML.
const RoomTours = (() => {
  const FIELDS = ["place", "name", "status", "reason", "label", "video", "score", "points", "x", "y", "z", "said", "spacing", "thumb", "page"];
  const PAGE = 48;
  const ORDERS = {
    name: (row) => row.name,
    score: (row) => row.score,
    points: (row) => row.points || null,
    floor: (row) => row.x * row.y || null,
    height: (row) => row.z || null,
    spacing: (row) => row.spacing || null,
  };
  const rows = [];
  const info = JSON.parse(document.getElementById("gallery-data").textContent);
  const find = (id) => document.getElementById(id);
  let isServed = false, shown = [], number = 0;

  const address = (...parts) => parts.map((part) => encodeURIComponent(part)).join("/");
  const state = () => ({ find: find("find").value, split: find("split").value, status: find("status").value, order: find("order").value, page: String(number) });

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const id of ["find", "split", "status", "order"]) if (given.has(id)) find(id).value = given.get(id);
    number = Number(given.get("page")) || 0;
  }

  function remember() {
    const kept = Object.entries(state()).filter(([name, value]) => value && value !== "0" && !(name === "order" && value === "name"));
    history.replaceState(null, "", kept.length ? "#" + new URLSearchParams(kept) : location.pathname + location.search);
  }

  function choose() {
    const { find: words, split, status, order } = state(), parts = words.toLowerCase().split(/\s+/).filter(Boolean);
    const [name, down] = order.split("-"), value = ORDERS[name] || ORDERS.name, sign = down ? -1 : 1;
    shown = rows.filter((row) => (!split || row.place === split) && (!status || row.status === status) && parts.every((part) => row.text.includes(part)));
    shown.sort((a, b) => {
      const [u, v] = [value(a), value(b)];
      if (u === null || v === null) return (u === null) - (v === null) || (a.name < b.name ? -1 : 1);
      return u === v ? (a.name < b.name ? -1 : 1) : (u < v ? -1 : 1) * sign;
    });
    number = Math.max(0, Math.min(number, Math.ceil(shown.length / PAGE) - 1));
  }

  function make(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function card(row) {
    const node = make(row.page || isServed ? "a" : "div", "card"), shot = make("div", "shot");
    if (node.tagName === "A") node.href = address("scenes", row.place, row.name + ".html");
    if (row.thumb) {
      const image = make("img");
      image.loading = "lazy";
      image.alt = row.name;
      image.src = address("thumbs", row.place, row.thumb);
      shot.append(image);
    } else shot.append(make("span", "", "no picture"));
    if (row.status !== "done") shot.append(make("span", "tag " + row.status, row.status));
    if (row.score !== null) shot.append(make("span", "score", row.score.toFixed(2)));
    const size = row.x ? `${row.x.toFixed(1)} × ${row.y.toFixed(1)} × ${row.z.toFixed(1)} m${row.said ? ` (${row.said})` : ""}` : "";
    const count = row.points ? (row.points >= 1e6 ? (row.points / 1e6).toFixed(1) + " M" : Math.round(row.points / 1e3) + " k") : "";
    node.title = [row.name, row.label, row.reason].filter(Boolean).join("\n");
    node.append(shot, make("b", "", row.name), make("span", "", row.reason || [count, size].filter(Boolean).join(" · ") || row.label || " "));
    return node;
  }

  function paint() {
    choose();
    const last = Math.max(1, Math.ceil(shown.length / PAGE));
    find("cards").replaceChildren(...shown.slice(number * PAGE, (number + 1) * PAGE).map(card));
    const loaded = rows.length < info.scenes ? ` (reading ${rows.length.toLocaleString("en")} of ${info.scenes.toLocaleString("en")})` : "";
    find("count").textContent = `${shown.length.toLocaleString("en")} scenes${loaded}`;
    find("where").textContent = `page ${number + 1} of ${last}`;
    find("before").disabled = number === 0;
    find("after").disabled = number + 1 >= last;
    remember();
  }

  function chunk(values) {
    for (const value of values) {
      const row = Object.fromEntries(FIELDS.map((field, i) => [field, value[i]]));
      row.text = [row.name, row.label, row.video, row.reason].join(" ").toLowerCase();
      rows.push(row);
    }
  }

  function load(index) {
    if (index >= info.chunks.length) return;
    const script = make("script");
    script.src = info.chunks[index];
    script.onload = () => { paint(); load(index + 1); };
    script.onerror = () => { find("count").textContent = info.chunks[index] + " is missing; make the report again"; };
    document.head.append(script);
  }

  function start() {
    read();
    for (const id of ["find", "split", "status", "order"]) find(id).addEventListener("input", () => { number = 0; paint(); });
    for (const [id, step] of [["before", -1], ["after", 1]]) find(id).addEventListener("click", () => {
      number += step;
      paint();
      find("gallery").scrollIntoView();
    });
    paint();
    const served = make("script");  // says so where a server makes missing pages
    served.src = "data/serve.js";
    served.onload = served.onerror = () => load(0);
    document.head.append(served);
  }
  return { chunk, start, serve: () => { isServed = true; } };
})();
RoomTours.start();
