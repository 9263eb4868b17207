// Draws the charts of a document, in its colours, and again where the reader's device turns dark or light.
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
let drawn = [];
let turn = 0;

function colours() {
  const style = getComputedStyle(document.body);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const text = { labelColor: of("quiet"), titleColor: of("quiet"), titleFontWeight: "normal" };
  return {
    background: null,
    font: style.getPropertyValue("font-family") || "sans-serif",
    view: { stroke: null },
    axis: { ...text, gridColor: of("line"), domainColor: of("quiet"), tickColor: of("quiet"), labelFontSize: 11, titleFontSize: 12 },
    legend: { ...text, labelColor: of("ink"), orient: "top", symbolOpacity: 1, labelFontSize: 12, labelLimit: 200 },
    text: { color: of("ink") },
    style: {
      quiet: { color: of("quiet"), stroke: of("quiet") },
      label: { color: of("ink"), fontSize: 12 },
      halo: { color: of("paper"), stroke: of("paper") },
      shade: { color: of("shade") },
      zone: { color: of("zone") },
      tile: { stroke: of("paper") },
    },
  };
}

async function draw() {
  const own = ++turn;
  drawn.forEach((view) => view.finalize());
  drawn = [];
  const config = colours();
  const tooltip = { theme: dark.matches ? "dark" : "light" };
  const actions = { export: true, source: false, compiled: false, editor: false };
  for (const place of document.querySelectorAll("[data-chart]")) {
    const { spec, renderer } = charts[Number(place.dataset.chart)];
    // ast: expressions are interpreted, so that the page's policy can forbid eval
    const view = await vegaEmbed(place, structuredClone(spec), { mode: "vega-lite", ast: true, renderer, config, tooltip, actions });
    if (own !== turn) {
      view.finalize();
      return;
    }
    drawn.push(view);
  }
  document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
}

dark.addEventListener("change", draw);
draw();
