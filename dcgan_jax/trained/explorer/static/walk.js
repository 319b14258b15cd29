// The walk: through chosen pictures and back to the first, drawn as rows and played on the stage.

import { find, make, paint, say } from './dom.js';
import { between } from './latents.js';
import { saveGif } from './save.js';
import { fileName } from './stage.js';

const SHOWN = 10; // pictures of a leg in its row, both ends included
const FRAMES = 48; // of a leg, that are kept once they are drawn
const MOST = 12; // stops
const GIF_RATE = 20; // frames in a second
const GIF_SIZE = 256; // pixels, roughly

export class Walk {
  constructor(shared) {
    Object.assign(this, shared);
    this.stops = null;
    this.position = 0; // from 0 to the number of stops
    this.frames = new Map(); // pixels that were drawn in play
    find('place').oninput = ({ target }) => {
      this.pause();
      this.goTo(target.valueAsNumber);
    };
    find('pace').oninput = () => this.tellPace();
    find('play').onclick = () => (this.playing ? this.pause() : this.play());
    find('gif').onclick = () => this.saveGif();
    find('walk-clear').onclick = () => this.setStops([]);
    this.tellPace();
  }

  get hint() {
    return 'Choose the stops, in their order.';
  }

  get seconds() {
    return find('pace').valueAsNumber; // of a leg
  }

  badge(picture) {
    const stops = (this.stops ?? []).flatMap((one, i) => (one.id === picture.id ? [i + 1] : []));
    return stops.join(', ');
  }

  choose(picture) {
    const left = this.stops.filter((one) => one.id !== picture.id);
    if (left.length < this.stops.length) return this.setStops(left);
    if (left.length === MOST) return say(`A walk has at most ${MOST} stops`);
    this.position = this.playing ? this.position : left.length;
    this.setStops([...left, picture]);
  }

  open() {
    // The first pictures show what a walk is.
    this.setStops(this.stops ?? [...find('sheet').children].slice(0, 5).map((tile) => tile.picture));
  }

  close() {
    this.pause();
    this.generator.cancel('walk');
  }

  setStops(stops) {
    this.stops = stops;
    this.frames = new Map();
    find('place').max = Math.max(stops.length, 1);
    const enough = stops.length > 1;
    for (const id of ['place', 'play', 'gif']) find(id).disabled = !enough;
    find('walk-note').textContent = enough
      ? `${stops.length} stops and back to the first; ${
          this.spec.latent.prior === 'normal' ? 'on great circles, at the length of the latents' : 'on straight lines'
        }.`
      : 'A walk takes two stops or more.';
    if (!enough) this.pause();
    this.changed();
    this.drawLegs();
    this.position = Math.min(this.position, stops.length);
    if (enough && !this.playing) this.goTo(this.position);
  }

  drawLegs() {
    this.generator.cancel('walk');
    const { stops } = this;
    const { width, height } = this.spec.image;
    const count = stops.length > 1 ? stops.length : 0;
    const rows = Array.from({ length: count }, (_, leg) => {
      const row = make('canvas', { width: SHOWN * width, height });
      row.onclick = ({ offsetX }) => {
        this.pause();
        const column = Math.floor((offsetX / row.clientWidth) * SHOWN);
        this.goTo(leg + column / (SHOWN - 1));
      };
      return row;
    });
    find('legs').replaceChildren(...rows, make('span', { id: 'cursor' }));
    const places = rows.flatMap((_, leg) => Array.from({ length: SHOWN }, (_, i) => leg + i / (SHOWN - 1)));
    const latents = places.map((place, i) => this.latent(Math.floor(i / SHOWN), place - Math.floor(i / SHOWN)));
    this.generator.later('walk', latents, (rgba, i) =>
      paint(rows[Math.floor(i / SHOWN)], rgba, this.spec, i % SHOWN));
    this.point();
  }

  latent(leg, t) {
    const { stops } = this;
    return between(stops[leg % stops.length].z, stops[(leg + 1) % stops.length].z, t, this.spec.latent);
  }

  picture(place) {
    const { stops } = this;
    const leg = Math.floor(place) % stops.length;
    const [from, to] = [stops[leg], stops[(leg + 1) % stops.length]];
    const t = place - Math.floor(place);
    const z = this.latent(leg, t);
    const flags = numbers(stops) && [`--seed=${stops[0].seed}`, `--points=${numbers(stops)}`, '--out=walk.gif'];
    if (!t) return { ...from, z };
    return { z, flags, label: `Walk, ${Math.round(t * 100)} % from ${from.short} to ${to.short}` };
  }

  goTo(place) {
    this.position = place;
    this.point();
    return this.stage.show(this.picture(place));
  }

  point() {
    const cursor = find('cursor');
    find('place').value = this.position;
    const place = this.position % Math.max(this.stops.length, 1);
    const leg = Math.floor(place);
    const row = find('legs').children[leg];
    if (!cursor || row === cursor) return;
    const { offsetTop, offsetHeight, clientWidth } = row;
    const tile = clientWidth / SHOWN;
    cursor.style.width = `${tile}px`;
    cursor.style.height = `${offsetHeight}px`;
    cursor.style.transform = `translate(${(place - leg) * (clientWidth - tile)}px, ${offsetTop}px)`;
  }

  tellPace() {
    find('pace-text').textContent = `${this.seconds} s a leg`;
    find('pace').setAttribute('aria-valuetext', `${this.seconds} seconds from stop to stop`);
  }

  play() {
    this.playing = true;
    find('play').textContent = 'Pause';
    find('caption').setAttribute('aria-live', 'off'); // It would be read without an end.
    let last;
    const step = (now) => {
      if (!this.playing) return;
      const passed = (now - (last ?? now)) / 1000;
      last = now;
      this.position = (this.position + passed / this.seconds) % this.stops.length;
      this.point();
      this.showFrame();
      this.next = requestAnimationFrame(step);
    };
    this.next = requestAnimationFrame(step);
  }

  // Shows where the walk is: what has been drawn in an earlier round, or as soon as the generator can.
  async showFrame() {
    const frame = Math.floor(this.position * FRAMES);
    const picture = this.picture(frame / FRAMES);
    const { frames } = this;
    if (frames.has(frame)) return this.stage.put(picture, frames.get(frame));
    if (this.waiting) return;
    this.waiting = true;
    const rgba = await this.generator.now(picture.z);
    this.waiting = false;
    if (!rgba || frames !== this.frames) return;
    frames.set(frame, rgba.slice());
    if (this.playing) this.stage.put(picture, rgba);
  }

  pause() {
    this.playing = false;
    cancelAnimationFrame(this.next);
    find('play').textContent = 'Play';
    find('caption').setAttribute('aria-live', 'polite');
  }

  async saveGif() {
    const button = find('gif');
    const { image, title } = this.spec;
    const { stops } = this;
    const count = Math.max(2, Math.round(this.seconds * GIF_RATE));
    const places = Array.from({ length: stops.length * count }, (_, i) => i / count);
    const latents = places.map((place) => this.picture(place).z);
    button.disabled = true;
    button.textContent = 'Drawing';
    const frames = [];
    await this.generator.later('gif', latents, (rgba) => frames.push(rgba.slice()));
    const zoom = Math.max(1, Math.round(GIF_SIZE / Math.max(image.width, image.height)));
    const delay = (1000 * this.seconds) / count;
    await saveGif(frames, image, zoom, delay, fileName('walk', title, ...stops.map((one) => one.short)));
    button.textContent = 'Save GIF';
    button.disabled = this.stops.length < 2;
  }
}

// The numbers of pictures of one seed, as a command takes them; '' if they are of several, or not of a seed.
export function numbers(pictures) {
  const plain = pictures.every((one) => one.index !== undefined && one.name === undefined);
  return plain && pictures.every((one) => one.seed === pictures[0].seed)
    ? pictures.map((one) => one.index).join(',')
    : '';
}
