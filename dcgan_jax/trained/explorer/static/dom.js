// Small things for building the page.

// An element with properties or attributes, and children: elements or plain text, which is never read as HTML.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const find = (id) => document.getElementById(id);

// A canvas of one image, still empty.
export function canvasFor(spec, properties = {}) {
  return make('canvas', { width: spec.image.width, height: spec.image.height, ...properties });
}

// Paints an image, RGBA, on a canvas; by default the whole canvas is one image.
export function paint(canvas, rgba, spec, column = 0, row = 0) {
  const { width, height } = spec.image;
  canvas.getContext('2d').putImageData(new ImageData(rgba.slice(), width, height), column * width, row * height);
}

// Moves the focus among elements by arrow keys, as in a grid with so many columns; only one of them is a tab stop.
export function roam(container, columns) {
  const items = () => [...container.children];
  const settle = (chosen) => items().forEach((one) => (one.tabIndex = one === chosen ? 0 : -1));
  container.addEventListener('keydown', (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement.closest(`#${container.id} > *`));
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
    const to = { Home: 0, End: all.length - 1 }[event.key] ?? at + (steps[event.key] ?? NaN);
    if (at < 0 || !all[to]) return;
    event.preventDefault();
    settle(all[to]);
    all[to].focus();
  });
  container.addEventListener('focusin', (event) => {
    const one = event.target.closest(`#${container.id} > *`);
    if (one) settle(one);
  });
  settle(items().find((one) => one.getAttribute('aria-selected') === 'true') ?? items()[0]);
}

// Says something to everybody, also to those who do not see the page.
let vanish;
export function say(text) {
  find('said').textContent = text;
  clearTimeout(vanish);
  vanish = setTimeout(() => (find('said').textContent = ''), 4000);
}
