// What a browser with scripts has beside the pages: times of the reader, keys, and copying. Pages need none of it.
(() => {
  "use strict";

  // Times stand in UTC; here they get the reader's zone, and the title keeps UTC.
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
  const putInZone = (root) => {
    for (const time of root.querySelectorAll("time[datetime]:not(.ago):not([data-zone])")) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.getTime())) {
        time.textContent = local.format(at);
        time.dataset.zone = "here";
      }
    }
  };

  // Copying works without https, too.
  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  const showCopyButtons = (root) => {
    for (const button of root.querySelectorAll("button.copy[hidden]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await copy(button.previousElementSibling.textContent);
        button.textContent = "copied";
      });
    }
  };

  // Keys: / goes to the search, j and k to the next and last row, Enter opens it.
  let row = null;
  const step = (by) => {
    const rows = [...document.querySelectorAll("table.keys tbody tr")];
    if (!rows.length) return;
    row?.classList.remove("here");
    row = rows[Math.min(Math.max(rows.indexOf(row) + by, 0), rows.length - 1)];
    row.classList.add("here");
    row.querySelector("a")?.focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      const field = document.querySelector(".search input");
      if (field) {
        event.preventDefault();
        field.focus();
      }
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });

  const enhance = (root) => {
    putInZone(root);
    showCopyButtons(root);
  };
  document.addEventListener("htmx:after:swap", () => enhance(document));
  enhance(document);
})();
