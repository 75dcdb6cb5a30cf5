// What a page without it could not do: the keyboard, and mail that arrives by itself.
"use strict";

const list = document.querySelector("[data-live], .rows");
const news = document.querySelector(".news");
const help = document.getElementById("help");
const scroller = document.querySelector(".beside") || document.scrollingElement;
const title = document.title;
const isReading = document.body.classList.contains("reading");
let arrived = 0;

// What this browser remembers: of a tab, and of all. Who forbids that reads without it.

const store = document.body.dataset.store;
const memory = (place) => ({
  get(name) {
    try {
      return JSON.parse(place()[`${name} ${store}`] || "null");
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      place()[`${name} ${store}`] = JSON.stringify(value);
    } catch {}
  },
});
const ofTab = memory(() => sessionStorage);
const ofAll = memory(() => localStorage);

// Times, as the clock here has them

const form = (options) => new Intl.DateTimeFormat("en-GB", options);
const day = { day: "numeric", month: "short" };
const time = { hour: "2-digit", minute: "2-digit" };
const forms = {
  short: form({ ...day, ...time }),
  ofYear: form({ ...day, year: "numeric" }),
  long: form({ weekday: "short", ...day, year: "numeric", ...time, second: "2-digit", timeZoneName: "short" }),
};
const thisYear = new Date().getFullYear();

function localize(root) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(each.dateTime);
    if (isNaN(moment)) continue;
    const long = forms.long.format(moment);
    const short = moment.getFullYear() === thisYear ? forms.short : forms.ofYear;
    each.textContent = each.matches(".long") ? long : short.format(moment);
    each.title = long;
  }
}

localize(document);
const zone = encodeURIComponent(forms.long.resolvedOptions().timeZone);
const { pathname } = new URL(".", document.baseURI);
document.cookie = `zone=${zone}; path=${pathname}; max-age=31536000; samesite=strict`; // days in a search

// The keyboard

const rows = () => [...document.querySelectorAll(".row")];

function turn(by) {
  const link = document.querySelector(by > 0 ? ".steps [rel=next]" : ".steps [rel=prev]");
  if (link) location.assign(link.href);
}

function step(by) {
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

function remove() {
  const row = document.activeElement.closest(".row");
  const button = (row ? row.parentElement : document.querySelector(".steps")).querySelector(".delete button");
  if (button) button.click();
}

const keys = {
  j: () => (isReading ? turn(1) : step(1)),
  k: () => (isReading ? turn(-1) : step(-1)),
  o: () => document.activeElement.classList.contains("row") && document.activeElement.click(),
  u: () => follow(".back"),
  h: () => follow("[data-view=html]"),
  t: () => follow("[data-view=text]"),
  s: () => follow("[data-view=source]"),
  Delete: remove,
  "#": remove,
  "/": () => document.querySelector("[type=search]").select(),
  "?": () => help.showPopover(),
};

// In a list they move the focus; a message is scrolled up and down.
function arrows({ key, shiftKey }) {
  const inList = !isReading || document.activeElement.classList.contains("row");
  if (shiftKey) return null;
  if (key === "ArrowDown" || key === "ArrowUp") return inList && rows().length ? () => step(key === "ArrowDown" ? 1 : -1) : null;
  if (key === "ArrowRight" || key === "ArrowLeft") return isReading ? () => turn(key === "ArrowRight" ? 1 : -1) : null;
  return null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector(":popover-open")) return;
  if (event.target.closest("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = keys[event.key] || arrows(event);
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

// Where all are of one sender, the recipients tell them apart, until there is another one.
function checkSenders() {
  const [first, ...others] = rows().map((row) => row.querySelector(".from").textContent);
  if (others.some((each) => each !== first)) list.classList.remove("whom");
}

function count(more) {
  const counted = document.querySelector(".total");
  if (!counted) return;
  const now = Number(counted.dataset.count) + more;
  counted.dataset.count = now;
  counted.textContent = counted.textContent.replace(/[\d,]+/, now.toLocaleString("en")).replace(/message$/, now === 1 ? "message" : "messages");
}

async function parsed(address) {
  const answer = await fetch(address);
  if (!answer.ok) return null;
  const template = document.createElement("template");
  template.innerHTML = await answer.text();
  localize(template.content);
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
  // More came than these, and what lies between them and the list would never be shown.
  const gap = found.querySelector(".older");
  if (gap && !isReading) {
    location.reload();
    return;
  }
  const fresh = [...found.querySelectorAll(".row")];
  fresh.forEach((row) => row.classList.add("new"));
  if (gap) {
    list.replaceChildren(found);
    onward.observe(gap);
  } else {
    const before = first.getBoundingClientRect().top;
    list.prepend(found);
    // Who has scrolled, or holds a row, reads on where they were.
    if (scroller.scrollTop > 0 || document.activeElement.classList.contains("row")) {
      scroller.scrollTop += first.getBoundingClientRect().top - before;
    }
  }
  if (fresh.length) tell(fresh.length);
  count(fresh.length);
  checkSenders();
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

async function older(item) {
  onward.unobserve(item);
  const found = await parsed(item.querySelector("a").href.replace("/?", "/rows?"));
  if (!found) return;
  const next = found.querySelector(".older");
  item.replaceWith(found);
  checkSenders();
  markNew();
  if (next) onward.observe(next);
}

const onward = new IntersectionObserver(([seenNow]) => {
  if (seenNow.isIntersecting) older(seenNow.target);
}, { rootMargin: "600px" });
document.querySelectorAll(".older").forEach((item) => onward.observe(item));

// What came since one last looked: before this tab was opened, or while nobody saw it

const newest = () => Math.max(ofAll.get("looked") || 0, ...rows().map((row) => Number(row.dataset.at)));
let since = ofTab.get("since") ?? ofAll.get("looked");
ofTab.set("since", since);

function markNew() {
  if (since === null) return;
  const fresh = rows().filter((row) => Number(row.dataset.at) > since);
  fresh.forEach((row) => row.classList.add("new"));
  const told = document.querySelector(".since");
  if (told && fresh.length && !arrived) {
    told.textContent = `${fresh.length} new since you last looked`;
    told.hidden = false;
  }
}

markNew();
document.addEventListener("visibilitychange", () => {
  // To go from page to page hides one as well; only one that is shown again was left.
  if (!document.hidden) ofTab.set("since", (since = ofAll.get("looked")));
  else if (rows().length) ofAll.set("looked", newest());
});
addEventListener("pagehide", () => rows().length && ofAll.set("looked", newest()));

// Back to the list: to the place, and to the message that one has read

if (isReading) {
  const name = location.pathname.split("/").pop();
  const back = document.querySelector(".back");
  const left = ofTab.get("left");
  const query = (address) => new URL(address, location).searchParams.get("q");
  if (back && left && query(left.href) === query(location.href)) back.href = left.href;
  if (back) back.addEventListener("click", () => ofTab.set("return", decodeURIComponent(name)));
} else if (list) {
  const comeBack = async (name, left) => {
    let item;
    while (rows().length < left.count && (item = document.querySelector(".older"))) {
      await older(item);
      if (item.isConnected) break;
    }
    scroller.scrollTop = left.top;
    const row = rows().find((each) => each.dataset.id === name);
    if (row) {
      row.focus({ preventScroll: true });
      row.scrollIntoView({ block: "nearest" });
    }
  };
  const left = ofTab.get("left");
  const name = ofTab.get("return");
  ofTab.set("return", null);
  const [visit] = performance.getEntriesByType("navigation");
  const isBack = visit && visit.type === "back_forward";
  if (left && left.href === location.href && (name || isBack)) comeBack(name || left.name, left);
  const leave = (name) => {
    ofTab.set("left", { href: location.href, count: rows().length, top: scroller.scrollTop, name });
  };
  list.addEventListener("click", ({ target }) => {
    const row = target.closest(".row");
    if (row) leave(row.dataset.id);
  });
  list.addEventListener("submit", ({ target }) => {
    const item = target.closest("li");
    const next = item.nextElementSibling || item.previousElementSibling;
    const row = next && next.querySelector(".row");
    leave(row && row.dataset.id);
    ofTab.set("return", row ? row.dataset.id : null);
  });
}
