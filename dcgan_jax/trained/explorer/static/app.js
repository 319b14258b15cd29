// The page: starts the generator, and joins the parts.

import { Arithmetic } from './arithmetic.js';
import { find, make, roam } from './dom.js';
import { Engine, findFaster, Generator } from './generator.js';
import { Plane } from './plane.js';
import { numbered, Sheet } from './sheet.js';
import { Directions } from './sliders.js';
import { Stage } from './stage.js';
import { Walk } from './walk.js';

const NAMES = { wasm: 'WebAssembly', webgpu: 'WebGPU' };

async function start() {
  const asked = new URLSearchParams(location.search).get('device'); // 'wasm' or 'webgpu' insists on one
  const engine = new Engine('wasm'); // It is the sooner one to draw, also where there is a GPU.
  const spec = await fetchSpec();
  describe(spec);
  await engine.load(spec);
  const generator = new Generator(engine, spec, stop);
  const stage = new Stage(spec, generator);
  const first = await stage.show(numbered(0, 0, spec));
  performance.mark('first-image');
  find('loading').remove();
  check(first, spec);
  build(spec, generator, stage);
  await generator.later('start', [], () => {}); // when all that is on the page is drawn
  if (spec.webgpu && asked !== 'wasm') await speedUp(generator, spec, asked === 'webgpu');
  find('engine').textContent = `${NAMES[generator.engine.device]} draws a picture in ${time(generator.milliseconds)}.`;
  document.documentElement.dataset.ready = generator.engine.device;
}

async function fetchSpec() {
  const response = await fetch('explorer.json', { cache: 'no-cache' });
  if (!response.ok) throw new Error(`explorer.json cannot be loaded: ${response.status} ${response.statusText}`);
  return response.json();
}

function describe(spec) {
  const { height, width } = spec.image;
  const { size, prior, classes } = spec.latent;
  document.title = `${spec.title} – explore a generator`;
  find('title').textContent = spec.title;
  document.documentElement.classList.toggle('transparent', spec.image.channels === 4);
  const numbers = `${size} ${prior} numbers${classes.length ? ' and a class' : ''}`;
  const step = spec.step ? `, at step ${spec.step.toLocaleString('en')}` : ''; // 0 is that of imported weights
  find('subtitle').textContent =
    `A generator trained on ${spec.made.Data}${step}. It turns ${numbers} into ${width} × ${height} pixels, in your browser.`;
  for (const [name, value] of Object.entries(spec.made)) {
    find('made').append(make('dt', {}, name), make('dd', {}, value));
  }
}

function build(spec, generator, stage) {
  const shared = { spec, generator, stage };
  const sheet = new Sheet(shared);
  const tools = {
    map: new Plane(shared),
    walk: new Walk(shared),
    sum: new Arithmetic(shared),
    turn: new Directions(shared),
  };
  const tabs = [...find('tabs').children];
  let open = null;
  const select = (tab) => {
    const name = tab.getAttribute('aria-controls');
    if (open === tools[name]) return;
    open?.close();
    tabs.forEach((one) => {
      one.setAttribute('aria-selected', String(one === tab));
      find(one.getAttribute('aria-controls')).hidden = one !== tab;
    });
    open = tools[name];
    sheet.serve(open);
    open.open();
  };
  tabs.forEach((tab) => {
    tab.onclick = () => select(tab);
    tab.onfocus = () => select(tab);
  });
  roam(find('tabs'), () => 1);
  find('keep').onclick = () => sheet.keep(stage.drawn);
  find('smooth').onclick = ({ target }) => {
    const smooth = target.getAttribute('aria-pressed') !== 'true';
    target.setAttribute('aria-pressed', String(smooth));
    document.documentElement.classList.toggle('smooth', smooth);
  };
  select(tabs[0]);
}

// Compares the first picture with the one that the exporting program has drawn.
function check(rgba, spec) {
  const difference = distance(rgba, spec);
  if (difference > 1) {
    find('notice').textContent =
      `This browser computes other pictures than the program that made this page: the first one differs by ` +
      `${difference} of 255.`;
  }
}

// The largest difference between an image, RGBA, and the first one as it should be.
function distance(rgba, spec) {
  const wanted = Uint8Array.from(atob(spec.first), (letter) => letter.charCodeAt(0));
  const { channels } = spec.image;
  let largest = 0;
  wanted.forEach((value, i) => {
    const at = Math.floor(i / channels) * 4;
    let found = rgba[at + (i % channels)];
    if (channels === 4 && i % 4 < 3) found = Math.round((found * rgba[at + 3]) / 255); // as in `first`
    largest = Math.max(largest, Math.abs(value - found));
  });
  return largest;
}

async function speedUp(generator, spec, forced) {
  const latent = numbered(0, 0, spec).z;
  const same = (rgba) => distance(rgba, spec) <= 1;
  const faster = await findFaster(generator.engine, spec, latent, same, forced);
  if (!faster) return;
  await generator.replace(faster);
}

const time = (milliseconds) =>
  milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;

function stop(error) {
  console.info(error);
  find('notice').textContent = `The generator cannot run here: ${error.message.replace(/\.+$/, '')}.`;
  document.documentElement.classList.add('stopped');
}

if (!window.explorerStopped) start().catch(stop);
