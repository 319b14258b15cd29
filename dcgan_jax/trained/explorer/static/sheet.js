// The contact sheet: numbered pictures of a seed, and those that the user has kept. Which of them are chosen, and
// what that means, is up to the tool that is open.

import { canvasFor, find, make, paint, roam, say } from './dom.js';
import { draw } from './latents.js';

const COUNT = 48;
const MOST = 2 ** 31 - COUNT; // the largest number of an image on the command line is 2**31 - 1

// The picture that `--mode=sample` makes of a seed and a number; with the number of a class, told that class.
export function numbered(seed, index, spec, number = null) {
  const z = draw(seed, index, spec.latent, number);
  const name = number === null ? undefined : spec.latent.classes[number];
  const label = `Image ${index} of seed ${seed}${name === undefined ? '' : ` as ${name}`}`;
  return { z, seed, index, name, label, id: `${seed}:${index}:${number}`, short: String(index) };
}

export class Sheet {
  constructor({ spec, generator, stage }) {
    Object.assign(this, { spec, generator, stage, seed: 0, from: 0, class: null, kept: [] });
    this.boxes = { sheet: find('sheet'), kept: find('kept') };
    this.fillClasses();
    find('seed').onchange = ({ target }) => this.turnTo(target.valueAsNumber, 0);
    find('seed-chance').onclick = () => this.turnTo(crypto.getRandomValues(new Uint32Array(1))[0], 0);
    find('back').onclick = () => this.turnTo(this.seed, this.from - COUNT);
    find('on').onclick = () => this.turnTo(this.seed, this.from + COUNT);
    this.fill();
  }

  fillClasses() {
    const { classes } = this.spec.latent;
    find('class-choice').hidden = !classes.length;
    find('class').append(make('option', { value: '' }, 'as drawn'));
    classes.forEach((name, i) => find('class').append(make('option', { value: i }, name)));
    find('class').onchange = ({ target }) => {
      this.class = target.value === '' ? null : Number(target.value);
      this.fill();
    };
  }

  turnTo(seed, from) {
    this.seed = Number.isInteger(seed) ? Math.min(Math.max(seed, 0), 2 ** 32 - 1) : this.seed;
    this.from = Math.min(Math.max(from, 0), MOST);
    find('seed').value = this.seed;
    this.fill();
  }

  async fill() {
    const pictures = Array.from({ length: COUNT }, (_, i) =>
      numbered(this.seed, this.from + i, this.spec, this.class));
    find('range').textContent = `${this.from}–${this.from + COUNT - 1}`;
    find('back').disabled = !this.from;
    this.generator.cancel('sheet');
    this.lay(this.boxes.sheet, pictures);
    const canvases = [...this.boxes.sheet.querySelectorAll('canvas')];
    await this.generator.later('sheet', pictures.map((one) => one.z), (rgba, i) => {
      paint(canvases[i], rgba, this.spec);
      pictures[i].rgba = rgba.slice();
    });
  }

  keep(drawn) {
    if (!drawn) return;
    if (this.kept.some((one) => one.label === drawn.label && one.z.every((x, i) => x === drawn.z[i]))) {
      return say('It is kept already');
    }
    const short = `k${this.kept.length + 1}`;
    this.kept.push({ ...drawn, rgba: drawn.rgba.slice(), flags: undefined, id: short, short });
    this.lay(this.boxes.kept, this.kept);
    [...this.boxes.kept.querySelectorAll('canvas')].forEach((one, i) => paint(one, this.kept[i].rgba, this.spec));
    say('Kept, among the pictures below');
  }

  lay(box, pictures) {
    box.replaceChildren(
      ...pictures.map((picture) => {
        const caption = make('span', { className: 'number' }, picture.short);
        const badge = make('span', { className: 'badge' });
        const tile = make('button', { className: 'tile', title: picture.label }, canvasFor(this.spec), caption, badge);
        tile.picture = picture;
        tile.onclick = () => this.tool?.choose(picture);
        return tile;
      }),
    );
    roam(box, () => getComputedStyle(box).gridTemplateColumns.split(' ').length);
    this.mark();
  }

  // Works for a tool: {hint, choose(picture), badge(picture)}; it says by `changed` when its badges change.
  serve(tool) {
    this.tool = tool;
    tool.changed = () => this.mark();
    this.mark();
  }

  mark() {
    find('hint').textContent = this.tool?.hint ?? '';
    for (const tile of Object.values(this.boxes).flatMap((box) => [...box.children])) {
      const badge = this.tool?.badge(tile.picture) ?? '';
      tile.querySelector('.badge').textContent = badge;
      tile.setAttribute('aria-pressed', String(badge !== ''));
      tile.setAttribute('aria-label', badge ? `${tile.picture.label}, chosen: ${badge}` : tile.picture.label);
    }
  }
}
