// What a page without it could not do: the keyboard, and mail that arrives by itself.
"use strict";

const list = document.querySelector("[data-live], .rows");
const news = document.querySelector(".news");
const help = document.getElementById("help");
const scroller = document.querySelector(".beside") || document.scrollingElement;
const title = document.title;
let arrived = 0;

// The keyboard

const rows = () => [...document.querySelectorAll(".row")];

function step(by) {
  const link = document.querySelector(by > 0 ? ".steps [rel=next]" : ".steps [rel=prev]");
  if (document.body.classList.contains("reading")) {
    if (link) location.assign(link.href);
    return;
  }
  const all = rows();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)];
  if (next) {
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

const keys = {
  j: () => step(1),
  k: () => step(-1),
  o: () => document.activeElement.classList.contains("row") && document.activeElement.click(),
  u: () => follow(".back"),
  h: () => follow("[data-view=html]"),
  t: () => follow("[data-view=text]"),
  s: () => follow("[data-view=source]"),
  "#": () => follow(".steps .delete"),
  "/": () => document.querySelector("[type=search]").select(),
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.closest("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = keys[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

const current = document.querySelector(".beside [aria-current]");
if (current) current.scrollIntoView({ block: "center" });

// Mail that arrives

function tell(count) {
  arrived += count;
  news.textContent = arrived === 1 ? "1 new message" : `${arrived} new messages`;
  document.title = `(${arrived}) ${title}`;
}

function seen() {
  arrived = 0;
  news.textContent = "";
  document.title = title;
}

async function parsed(address) {
  const answer = await fetch(address);
  if (!answer.ok) return null;
  const template = document.createElement("template");
  template.innerHTML = await answer.text();
  return template.content;
}

async function refresh() {
  const first = rows()[0];
  const query = list.dataset.live;
  if (!first || list.matches(".empty")) {
    location.reload();
    return;
  }
  const after = encodeURIComponent(first.dataset.id);
  const found = await parsed(`rows?${query && `${query}&`}after=${after}`);
  if (!found) {
    // The store was emptied meanwhile: a list of what is gone helps nobody.
    if (document.body.classList.contains("listing")) location.reload();
    return;
  }
  found.querySelectorAll(".older").forEach((each) => each.remove());
  const fresh = [...found.querySelectorAll(".row")];
  fresh.forEach((row) => row.classList.add("new"));
  const before = first.getBoundingClientRect().top;
  list.prepend(found);
  // Who has scrolled, or holds a row, reads on where they were.
  if (scroller.scrollTop > 0 || document.activeElement.classList.contains("row")) {
    scroller.scrollTop += first.getBoundingClientRect().top - before;
  }
  if (fresh.length) tell(fresh.length);
  if (!document.hidden && scroller.scrollTop === 0) setTimeout(seen, 4000);
}

if (list && "live" in list.dataset) {
  let source = null;
  let work = Promise.resolve();
  const look = () => {
    work = work.then(refresh).catch(() => {});
  };
  const connect = () => {
    source = new EventSource(`arrivals?${list.dataset.live}`);
    source.addEventListener("open", () => document.documentElement.classList.add("live"));
    source.addEventListener("message", look);
  };
  // A browser has six connections to a server; a page that nobody sees needs none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) {
      source.close();
      source = null;
    } else if (!document.hidden && !source) {
      connect();
      if (!list.matches(".empty")) look();
    }
  });
  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
  addEventListener("scroll", () => scroller.scrollTop === 0 && seen(), true);
  connect();
}

// Older messages, as one scrolls

const onward = new IntersectionObserver(async ([seenNow]) => {
  if (!seenNow.isIntersecting) return;
  const item = seenNow.target;
  onward.unobserve(item);
  const found = await parsed(item.querySelector("a").href.replace("/?", "/rows?"));
  if (!found) return;
  const next = found.querySelector(".older");
  item.replaceWith(found);
  if (next) onward.observe(next);
}, { rootMargin: "600px" });
document.querySelectorAll(".older").forEach((item) => onward.observe(item));
