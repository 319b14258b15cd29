// The map: a plane of latents to drag through.

import { canvasFor, find, make, paint } from './dom.js';
import { amongThree, around, CORNERS, directionsAround } from './latents.js';

const TILES = 7; // of the map, each way
const STEP = 0.04;
const LARGE_STEP = 0.2;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Plane {
  constructor(shared) {
    Object.assign(this, shared);
    const { latent } = this.spec;
    this.centre = this.stage.drawn;
    this.corners = []; // pictures between which the other map lies
    this.shape = 'around';
    this.seed = 0; // of the directions
    this.directions = directionsAround(this.centre.z, this.seed, latent);
    const field = find('field');
    field.width = TILES * this.spec.image.width;
    field.height = TILES * this.spec.image.height;
    field.parentElement.style.aspectRatio = field.width / field.height;
    this.listen();
    this.at = [0, 0];
  }

  get hint() {
    return this.shape === 'around'
      ? 'Choose the centre of the map.'
      : 'Choose three corners of the map.';
  }

  badge(picture) {
    if (this.shape === 'around') return picture.id && picture.id === this.centre.id ? 'centre' : '';
    const corner = this.corners.findIndex((one) => one.id === picture.id);
    return corner < 0 ? '' : 'ABC'[corner];
  }

  choose(picture) {
    if (this.shape === 'around') {
      this.centre = picture;
      this.directions = directionsAround(picture.z, this.seed, this.spec.latent);
      this.at = [0, 0];
    } else {
      const there = this.corners.findIndex((one) => one.id === picture.id);
      if (there >= 0) this.corners.splice(there, 1);
      else this.corners = [...this.corners.slice(-2), picture];
      this.at = [0, 0];
      if (this.corners.length < 3) this.stage.show(picture);
    }
    this.draw();
    this.changed();
  }

  open() {
    this.draw();
  }

  close() {
    this.generator.cancel('map');
  }

  listen() {
    const surface = find('surface');
    surface.onpointerdown = (event) => {
      if (event.button) return;
      surface.setPointerCapture(event.pointerId);
      surface.focus({ preventScroll: true, focusVisible: false });
      this.drag(event);
    };
    surface.onpointermove = (event) => surface.hasPointerCapture(event.pointerId) && this.drag(event);
    surface.onkeydown = (event) => {
      const step = event.shiftKey ? LARGE_STEP : STEP;
      const way = STEPS[event.key];
      if (event.key === 'Home') this.move(0, 0);
      else if (way) this.move(this.at[0] + way[0] * step, this.at[1] + way[1] * step);
      else return;
      event.preventDefault();
    };
    for (const choice of document.querySelectorAll('input[name=plane]')) {
      choice.onchange = () => this.reshape(choice.value);
    }
    find('shuffle').onclick = () => this.shuffle();
  }

  drag(event) {
    const { left, top, width, height } = find('surface').getBoundingClientRect();
    this.move(((event.clientX - left) / width) * 2 - 1, 1 - ((event.clientY - top) / height) * 2);
  }

  move(x, y) {
    this.at = [x, y].map((value) => Math.round(Math.min(Math.max(value, -1), 1) * 1000) / 1000);
    this.place();
    if (this.ready) this.stage.show(this.picture());
  }

  get ready() {
    return this.shape === 'around' || this.corners.length === 3;
  }

  latentAt(x, y) {
    const { latent } = this.spec;
    if (this.shape === 'around') return around(this.centre.z, this.directions, x, y, latent);
    return amongThree(this.corners.map((one) => one.z), x, y, latent);
  }

  picture() {
    const [x, y] = this.at;
    const z = this.latentAt(x, y);
    if (this.shape === 'around' && !x && !y) return { ...this.centre, z };
    const where = this.shape === 'around'
      ? `Around ${this.centre.short}`
      : `Between ${this.corners.map((one) => one.short).join(', ')}`;
    return { z, label: `${where}: ${side(x, 'right', 'left')}, ${side(y, 'up', 'down')}` };
  }

  reshape(shape) {
    this.shape = shape;
    this.at = [0, 0];
    if (shape === 'three' && !this.corners.length) {
      // The first three of the sheet show what this is.
      this.corners = [...find('sheet').children].slice(0, 3).map((tile) => tile.picture);
    }
    this.draw();
    this.changed();
  }

  shuffle() {
    if (this.shape === 'around') {
      this.seed = crypto.getRandomValues(new Uint32Array(1))[0];
      this.directions = directionsAround(this.centre.z, this.seed, this.spec.latent);
    } else {
      const tiles = [...find('sheet').children].map((tile) => tile.picture);
      this.corners = shuffled(tiles).slice(0, 3);
      this.changed();
    }
    this.draw();
  }

  place() {
    const [x, y] = this.at;
    const handle = find('handle');
    handle.style.left = `${(x + 1) * 50}%`;
    handle.style.top = `${(1 - y) * 50}%`;
  }

  // Draws the whole map, from its centre outwards, and the picture at the handle.
  draw() {
    this.generator.cancel('map');
    this.place();
    this.drawCorners();
    find('map-note').textContent = this.note;
    find('field').getContext('2d').clearRect(0, 0, find('field').width, find('field').height);
    if (!this.ready) return;
    this.stage.show(this.picture());
    const middle = (TILES - 1) / 2;
    const cells = Array.from({ length: TILES ** 2 }, (_, i) => [i % TILES, Math.floor(i / TILES)]);
    const far = ([column, row]) => Math.hypot(column - middle, row - middle);
    cells.sort((a, b) => far(a) - far(b));
    const latents = cells.map(([column, row]) =>
      this.latentAt((2 * (column + 0.5)) / TILES - 1, 1 - (2 * (row + 0.5)) / TILES));
    this.generator.later('map', latents, (rgba, i) => paint(find('field'), rgba, this.spec, ...cells[i]));
  }

  drawCorners() {
    const shown = this.shape === 'three' ? this.corners : [];
    find('corners').replaceChildren(
      ...shown.map((picture, i) => {
        const canvas = canvasFor(this.spec);
        if (picture.rgba) paint(canvas, picture.rgba, this.spec);
        const corner = make('div', { className: 'corner' }, canvas, make('span', {}, 'ABC'[i]));
        const [x, y] = CORNERS[i];
        corner.style.left = `${(x + 1) * 50}%`;
        corner.style.top = `${(1 - y) * 50}%`;
        return corner;
      }),
    );
  }

  get note() {
    if (!this.ready) return 'Three pictures make a map.';
    const { prior } = this.spec.latent;
    if (this.shape === 'three') return `The plane through A, B and C${prior === 'normal' ? ', at their length' : ''}.`;
    return prior === 'normal'
      ? 'Two random directions on the sphere of latents; the middle of each edge is a quarter turn away.'
      : 'Two random directions, reflected at the limits of the latents.';
  }
}

const side = (value, positive, negative) => `${Math.abs(value).toFixed(2)} ${value < 0 ? negative : positive}`;

function shuffled(items) {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

export { shuffled };
