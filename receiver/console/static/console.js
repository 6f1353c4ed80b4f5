// Extras of a browser with scripts: the reader's time zone, keys, copying and live pages. All pages work without them.
(() => {
  "use strict";

  // Browsers have the clipboard only over https; the text area works without it.
  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
  const enhance = () => {
    // The server writes times in UTC. This shows them in the reader's zone; the title keeps UTC.
    for (const time of document.querySelectorAll("time[datetime]:not(.ago):not([data-zone])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.textContent = local.format(at);
      time.dataset.zone = "here";
    }
    document.querySelector(".zone")?.replaceChildren(`Times are those of ${local.resolvedOptions().timeZone}.`);
    for (const button of document.querySelectorAll("button.copy[hidden]")) {
      button.hidden = false;
      // Not another listener: a page that fetched itself many times would copy as often.
      button.onclick = () => copy(button.previousElementSibling.textContent).then(() => (button.textContent = "copied"));
    }
  };

  // Keys: / goes to the search, j to the next row, k to the previous one, and Enter opens the row.
  let row = null;
  const step = (by) => {
    const rows = [...document.querySelectorAll("table.keys tbody tr")];
    row?.classList.remove("here");
    row = rows[Math.min(Math.max(rows.indexOf(row) + by, 0), rows.length - 1)];
    row?.classList.add("here");
    row?.querySelector("a")?.focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const field = event.key === "/" && document.querySelector(".search input");
    if (field) {
      event.preventDefault();
      field.focus();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });

  // Live: after a hint of a change, and once a minute, the page fetches itself. Without a stream it does so every 15 seconds.
  const live = document.getElementById("live");
  const parts = live?.dataset.live?.split(" ") ?? [];
  // Why the page is not live: what its stream said last, and how its last fetch ended. Null is no reason, "" an unknown one.
  let unheard = "", failed = null;
  let source = null, paused = false, fetching = false, refused = null, lost = null, due = null, rest = 500, read = 0, fetched = 0;
  // The browser's clock may be wrong or be set, so times count from the server's time in the page, by the monotonic clock.
  const align = () => (read = Date.parse(live.querySelector("time").dateTime) - performance.now());
  const tell = (seconds = 0) => {
    const isLive = unheard === null && failed === null;
    lost = isLive ? null : new Date(Math.min(lost ?? Infinity, read + performance.now() - seconds * 1000));
    const isRefused = source?.readyState === EventSource.CLOSED && !document.hidden, asks = "it has no stream, and asks every 15 seconds";
    const why = [lost?.toLocaleTimeString(), unheard || failed || (isRefused && asks)].filter(Boolean).join(": ");
    const says = ` · ${paused ? "paused" : isLive ? "live" : `not live since ${why}`}`, told = live.querySelector("span");
    if (told.textContent !== says) told.textContent = says; // A screen reader reads what is written there.
    live.className = `live ${paused ? "" : isLive ? "on" : "lost"}`;
  };
  // Whether a field has what the page did not bring: typed text, or a mark.
  const isChanged = (field) => field.value !== field.defaultValue || field.checked !== field.defaultChecked;
  const isFilled = () => [...document.querySelectorAll("#page :is(input, textarea)")].some(isChanged);
  const isTyping = () => document.activeElement?.closest("#page :is(input, select, textarea)");
  // An answer that is not the page may give the reason in a header, as the stream does.
  const reasonOf = (event) => event.detail?.ctx?.response?.headers?.get("X-Hookmirror-Reason");
  const refuse = (event) => (refused = reasonOf(event) ?? "the page could not be loaded again");
  // The details of the page, each by its summary and its number among those with the same.
  const folds = (seen = {}) => [...document.querySelectorAll("#page summary")].map(({ textContent: text, parentElement: fold }) =>
    [`${(seen[text] = (seen[text] ?? 0) + 1)} ${text}`, fold]);
  const refresh = async () => {
    due = null;
    if (paused || document.hidden || !window.htmx) return;
    if (fetching || isTyping()) return refreshSoon();
    const folded = new Map(folds().map(([name, each]) => [name, each.open]));
    fetched = performance.now();
    [fetching, refused] = [true, null];
    await htmx.ajax("GET", location.href, { target: "#page", select: "#page", swap: "outerMorph" }).catch(refuse);
    // A page that is slow to make is fetched less often, so that it takes at most a fifth of the time.
    rest = Math.min(Math.max(500, 4 * (performance.now() - fetched)), 15000);
    fetching = false;
    for (const [name, each] of folds()) each.open = folded.get(name) ?? each.open;
    const time = document.querySelector("#page footer time");
    if (time) live.querySelector("time").replaceWith(time.cloneNode(true));
    if (refused === null && !paused) align();
    if (refused === null && source?.readyState === EventSource.CLOSED) unheard &&= ""; // The reason of a stream that is gone.
    failed = refused;
    tell();
  };
  const refreshSoon = () => (due ??= setTimeout(refresh, rest));
  const stop = () => {
    source?.close();
    unheard = "";
    tell();
  };
  const listen = () => {
    // What changed between the reading of the page and the opening of the stream is told by the stream's first hint.
    source = new EventSource(`${live.dataset.address}?seen=${document.querySelector("#page footer")?.dataset.marks ?? ""}`);
    const hear = ({ reason, seconds }) => {
      if (reason === null && lost) refreshSoon();
      unheard = reason;
      tell(seconds);
    };
    source.onopen = () => hear({ reason: null });
    source.onerror = () => hear({ reason: unheard ?? "" });
    // The server says when its database has not answered for some seconds, and when it answers again.
    source.addEventListener("live", source.onopen);
    source.addEventListener("lost", (event) => hear(JSON.parse(event.data)));
    source.addEventListener("changed", (event) => {
      if (JSON.parse(event.data).some((part) => parts.includes(part))) refreshSoon();
    });
  };
  const follow = () => (paused || document.hidden ? stop() : listen());
  if (parts.length) {
    align();
    const button = live.querySelector("button");
    button.hidden = false;
    button.addEventListener("click", () => {
      paused = !paused;
      button.textContent = paused ? "continue" : "pause";
      follow();
    });
    document.addEventListener("visibilitychange", follow);
    addEventListener("pagehide", stop);
    setInterval(() => {
      if (paused || document.hidden) return;
      // Without a change, spans such as “3 s ago” and the chart would stay as they are.
      if (lost || performance.now() - fetched > 60000) refreshSoon();
      if (source?.readyState === EventSource.CLOSED) listen(); // A browser does not reconnect after an answer that is an error.
    }, 15000);
    if (!document.hidden) listen();
  }

  for (const name of ["htmx:response:error", "htmx:error"]) document.addEventListener(name, refuse);
  // An answer without a page of ours, such as a proxy's, would leave nothing here. A paused page stays as it is, and so does
  // one with typed text if the session has ended: the page for signing in would lose it.
  document.addEventListener("htmx:before:swap", (event) => {
    const isPage = event.detail.tasks.some((task) => task.fragment.childElementCount);
    if (!isPage) refuse(event);
    if (!isPage || paused || (event.detail.ctx.response.status === 401 && isFilled())) event.preventDefault();
  });
  document.addEventListener("htmx:after:swap", () => (enhance(), row?.classList.add("here"))); // The server marks no row.
  enhance();
})();
