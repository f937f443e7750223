(() => {
  const map = document.getElementById("map");
  if (!map) return;
  const tip = document.getElementById("tip"), points = [...map.querySelectorAll("circle")];
  let at = -1;
  const show = (index) => {
    points[at]?.classList.remove("on");
    at = index;
    const point = points[at];
    if (!point) { tip.hidden = true; return; }
    point.classList.add("on");
    const [name, label, picture] = samples[point.dataset.i];
    const image = document.createElement("img"), text = document.createElement("div");
    image.src = picture; image.alt = "";
    text.textContent = label ? `${name}: ${label}` : name;
    tip.replaceChildren(image, text);
    tip.hidden = false;
    const box = map.getBoundingClientRect(), here = point.getBoundingClientRect();
    const x = here.left - box.left + 14, y = here.top - box.top + 14;
    tip.style.left = Math.max(0, Math.min(x, box.width - tip.offsetWidth)) + "px";
    tip.style.top = Math.max(0, Math.min(y, box.height - tip.offsetHeight)) + "px";
  };
  map.addEventListener("pointerover", (e) => { const i = points.indexOf(e.target); if (i >= 0) show(i); });
  map.addEventListener("pointerleave", () => show(-1));
  map.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (e.key === "Escape") show(-1);
    if (!step) return;
    e.preventDefault();
    show((at + step + points.length) % points.length);
  });
  for (const button of document.querySelectorAll("button[data-to]")) {
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll("button[data-to]")) {
        other.setAttribute("aria-pressed", other === button);
      }
      for (const point of points) {
        const [x, y] = point.dataset[button.dataset.to].split(",").map(Number);
        point.setAttribute("cx", 10 + 480 * x);
        point.setAttribute("cy", 10 + 380 * y);
      }
      show(-1);
    });
  }
})();
