// Directions: sliders that change one picture, and for a generator that is told classes the class.

import { canvasFor, find, make, paint } from './dom.js';
import { lerp, moved, ofClass } from './latents.js';

const REACH = 0.5; // of a slider, in lengths of a typical latent

export class Directions {
  constructor(shared) {
    Object.assign(this, shared);
    const { latent, directions } = this.spec;
    this.reach = REACH * Math.sqrt(latent.prior === 'normal' ? latent.size : latent.size / 3);
    this.amounts = directions.map(() => 0);
    this.rows = directions.map((_, i) => this.makeRow(i));
    find('sliders').append(...this.rows.map((row) => row.box));
    find('turn-reset').onclick = () => this.begin(this.base);
    find('turn-note').textContent =
      'The directions that change the first layer most, the strongest first, found without labels (SeFa).';
    if (latent.classes.length) this.makeClasses();
  }

  get hint() {
    return 'Choose one to change.';
  }

  badge(picture) {
    return this.base && picture.id && picture.id === this.base.id ? 'start' : '';
  }

  choose(picture) {
    this.begin(picture);
  }

  open() {
    // What has been found with another tool can be changed here.
    const { drawn } = this.stage;
    if (drawn && drawn.label !== this.last) this.begin({ ...drawn, flags: undefined });
    else this.drawEnds();
  }

  close() {
    this.generator.cancel('turn');
  }

  makeRow(i) {
    const [low, high] = [canvasFor(this.spec, { className: 'end' }), canvasFor(this.spec, { className: 'end' })];
    const slider = make('input', {
      type: 'range', min: -1, max: 1, step: 0.01, value: 0, 'aria-label': `Direction ${i + 1}`,
    });
    slider.oninput = () => {
      this.amounts[i] = slider.valueAsNumber * this.reach;
      this.show();
    };
    slider.onchange = () => this.drawEnds();
    [low, high].forEach((canvas, end) => {
      canvas.onclick = () => {
        slider.value = end ? 1 : -1;
        slider.oninput();
        slider.onchange();
      };
    });
    const box = make('div', { className: 'direction' }, low, slider, high);
    return { box, slider, low, high };
  }

  makeClasses() {
    const { classes } = this.spec.latent;
    find('classes').hidden = false;
    for (const id of ['class-from', 'class-to']) {
      find(id).append(...classes.map((name, i) => make('option', { value: i }, name)));
      find(id).onchange = () => this.show();
    }
    find('class-share').oninput = () => this.show();
    find('class-share').onchange = () => this.drawEnds();
    this.tiles = classes.map((name, i) => {
      const canvas = canvasFor(this.spec);
      const tile = make('button', { className: 'tile', title: name }, canvas, make('span', {}, name));
      tile.onclick = () => {
        find('class-to').value = i;
        find('class-share').value = 1;
        this.show();
        this.drawEnds();
      };
      return { tile, canvas };
    });
    find('class-tiles').append(...this.tiles.map(({ tile }) => tile));
  }

  // Starts anew from a picture.
  begin(picture) {
    this.base = picture;
    this.amounts.fill(0);
    this.rows.forEach(({ slider }) => (slider.value = 0));
    const { size, classes } = this.spec.latent;
    if (classes.length) {
      const weights = picture.z.subarray(size);
      this.own = weights.indexOf(Math.max(...weights));
      find('class-from').value = this.own;
      find('class-to').value = (this.own + 1) % classes.length;
      find('class-share').value = 0;
    }
    this.changed();
    this.show();
    this.drawEnds();
  }

  // The picture between its class and another; it stays as it is, maybe a mixture, while it is told its own.
  get told() {
    const { latent } = this.spec;
    if (!latent.classes.length) return this.base.z;
    const [from, to] = ['class-from', 'class-to'].map((id) => Number(find(id).value));
    const start = from === this.own ? this.base.z : ofClass(this.base.z, from, latent);
    return lerp(start, ofClass(this.base.z, to, latent), find('class-share').valueAsNumber);
  }

  latent(amounts = this.amounts, told = this.told) {
    return moved(told, this.spec.directions, amounts, this.spec.latent);
  }

  show() {
    const { classes } = this.spec.latent;
    const share = classes.length ? find('class-share').valueAsNumber : 0;
    const parts = this.amounts.flatMap((amount, i) =>
      amount ? [`${i + 1} by ${(amount / this.reach).toFixed(2)}`] : []);
    if (share) parts.push(`${Math.round(share * 100)} % ${classes[find('class-to').value]}`);
    const changed = parts.length > 0;
    const picture = changed
      ? { z: this.latent(), label: `${this.base.label}, changed: ${parts.join(', ')}` }
      : this.base;
    this.last = picture.label;
    return this.stage.show(picture);
  }

  // Draws what the sliders lead to from where they are.
  drawEnds() {
    this.generator.cancel('turn');
    const told = this.told;
    const ends = this.rows.flatMap(({ low, high }, i) =>
      [[low, -1], [high, 1]].map(([canvas, end]) => {
        const amounts = [...this.amounts];
        amounts[i] = end * this.reach;
        return { canvas, z: this.latent(amounts, told) };
      }));
    const classes = (this.tiles ?? []).map(({ canvas }, i) =>
      ({ canvas, z: this.latent(this.amounts, ofClass(this.base.z, i, this.spec.latent)) }));
    const all = [...classes, ...ends];
    this.generator.later('turn', all.map((one) => one.z), (rgba, i) => paint(all[i].canvas, rgba, this.spec));
  }
}
