// Three small things that Streamlit does not do: a link into a page that is still being drawn arrives where it
// points, the table of contents follows the reader, and links within the course stay in this tab.
(() => {
  const previous = window.refractStop;
  if (previous) previous();
  const stop = new AbortController();
  const observers = [];
  window.refractStop = () => {
    stop.abort();
    observers.forEach((observer) => observer.disconnect());
  };
  const on = (target, type, run, more = {}) => target.addEventListener(type, run, { signal: stop.signal, ...more });
  const HEADER = 76; // what the bar at the top covers, and a little

  const wanted = () => {
    try {
      return decodeURIComponent(location.hash.slice(1));
    } catch {
      return location.hash.slice(1);
    }
  };

  // Keep the target in view until the page has stopped growing or the reader has taken over.
  const arrive = () => {
    const name = wanted();
    if (!name) return;
    const began = performance.now();
    let quietSince = began;
    let last = null;
    let over = false;
    const end = () => {
      over = true;
    };
    for (const type of ["wheel", "touchstart", "keydown", "pointerdown"]) on(document, type, end, { once: true, capture: true });
    const step = () => {
      const now = performance.now();
      if (over || stop.signal.aborted || now - began > 15000) return;
      const target = document.getElementById(name);
      if (target) {
        const top = target.getBoundingClientRect().top;
        if (last === null || Math.abs(top - last) > 2) {
          target.scrollIntoView({ block: "start" });
          last = target.getBoundingClientRect().top;
          quietSince = now;
        } else if (now - quietSince > 2500) {
          return;
        }
      }
      requestAnimationFrame(step);
    };
    step();
  };

  const follow = () => {
    const links = [...document.querySelectorAll(".refract-toc a")];
    if (!links.length) return;
    let current = links[0];
    const page = document.querySelector('[data-testid="stMain"]');
    const atEnd = page && page.scrollTop > 0 && page.scrollTop + page.clientHeight >= page.scrollHeight - 4;
    if (atEnd) current = links[links.length - 1]; // the last headings cannot reach the top
    for (const link of atEnd ? [] : links) {
      const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
      if (target && target.getBoundingClientRect().top <= HEADER + 40) current = link;
    }
    for (const link of links) {
      if (link !== current) link.removeAttribute("aria-current");
      else if (link.getAttribute("aria-current") !== "true") {
        link.setAttribute("aria-current", "true");
        const box = link.closest('[data-testid="stSidebarContent"]');
        if (box) {
          const [own, around] = [link.getBoundingClientRect(), box.getBoundingClientRect()];
          if (own.top < around.top + 60 || own.bottom > around.bottom - 20) box.scrollTop += own.top - around.top - around.height / 2;
        }
      }
    }
  };
  let pending = false;
  const soon = () => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      if (!stop.signal.aborted) follow();
    });
  };
  on(document, "scroll", soon, { capture: true, passive: true });
  on(window, "resize", soon);
  on(window, "hashchange", soon);
  const main = document.querySelector('[data-testid="stMain"]');
  if (main) {
    const growth = new MutationObserver(soon);
    growth.observe(main, { childList: true, subtree: true });
    observers.push(growth);
  }

  // Streamlit opens every link in prose in a new tab; those within the course belong in this one.
  on(
    document,
    "click",
    (event) => {
      const link = event.target.closest?.("a[href]");
      if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
      if (link.target === "_blank" && link.origin === location.origin && link.closest(".stMarkdown")) {
        event.preventDefault();
        location.assign(link.href);
      }
    },
    { capture: true },
  );

  soon();
  arrive();
})();
