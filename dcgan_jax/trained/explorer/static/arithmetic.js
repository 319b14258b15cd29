// Arithmetic: mean(A) - mean(B) + mean(C), each a group of pictures; the stage shows what comes out.

import { canvasFor, find, make, paint, say } from './dom.js';
import { arithmetic, mean } from './latents.js';
import { shuffled } from './plane.js';
import { numbers } from './walk.js';

const MOST = 6; // pictures of a group
const USUAL = 3; // as in the paper
const GROUPS = [
  { name: 'A', sign: '', flag: 'plus' },
  { name: 'B', sign: '−', flag: 'minus' },
  { name: 'C', sign: '+', flag: 'plus2' },
];

export class Arithmetic {
  constructor(shared) {
    Object.assign(this, shared);
    this.groups = GROUPS.map((group) => this.makeGroup(group));
    find('groups').append(...this.groups.map((group) => group.box));
    find('sum-chance').onclick = () => this.fillByChance();
    find('sum-clear').onclick = () => {
      this.groups.forEach((group) => (group.pictures = []));
      this.activate(0);
    };
    this.active = 0;
  }

  makeGroup({ name, sign, flag }) {
    const canvas = canvasFor(this.spec, { role: 'img' });
    const members = make('div', { className: 'members' });
    const button = make('button', { className: 'group-name' }, `Fill ${name}`);
    const box = make('div', { className: 'group', role: 'group', 'aria-label': `Group ${name}`, 'data-sign': sign },
      canvas, button, members);
    const group = { name, flag, canvas, members, button, box, pictures: [] };
    button.onclick = () => this.activate(this.groups.indexOf(group));
    return group;
  }

  get hint() {
    return `Choose pictures for ${GROUPS[this.active].name}, three or so.`;
  }

  badge(picture) {
    return this.groups
      .filter((group) => group.pictures.some((one) => one.id === picture.id))
      .map((group) => group.name)
      .join(' ');
  }

  choose(picture) {
    const group = this.groups[this.active];
    const left = group.pictures.filter((one) => one.id !== picture.id);
    if (left.length === group.pictures.length && left.length === MOST) {
      return say(`A group has at most ${MOST} pictures`);
    }
    const added = left.length === group.pictures.length;
    group.pictures = added ? [...left, picture] : left;
    // A full group hands on to one that is still empty.
    const empty = this.groups.findIndex((one) => !one.pictures.length);
    this.activate(added && group.pictures.length === USUAL && empty >= 0 ? empty : this.active);
  }

  fillByChance() {
    const tiles = shuffled([...find('sheet').children].map((tile) => tile.picture));
    this.groups.forEach((group, i) => (group.pictures = tiles.slice(USUAL * i, USUAL * (i + 1))));
    this.activate(0);
  }

  activate(number) {
    this.active = number;
    this.update();
  }

  open() {
    this.update();
  }

  close() {
    this.generator.cancel('sum');
  }

  update() {
    this.generator.cancel('sum');
    this.changed();
    this.groups.forEach((group, i) => this.draw(group, i === this.active));
    const full = this.groups.every((group) => group.pictures.length);
    find('sum-note').textContent = full
      ? 'The large picture is mean(A) − mean(B) + mean(C). Means of three are steadier than single pictures.'
      : 'Three groups make a sum: mean(A) − mean(B) + mean(C).';
    if (full) this.stage.show(this.sum());
  }

  sum() {
    const z = arithmetic(...this.groups.map((group) => group.pictures.map((one) => one.z)));
    const all = this.groups.flatMap((group) => group.pictures);
    const flags = numbers(all) && [
      `--seed=${all[0].seed}`,
      ...this.groups.map((one) => `--${one.flag}=${numbers(one.pictures)}`),
      '--out=arithmetic.png',
    ];
    const [a, b, c] = this.groups.map((group) => group.pictures.map((one) => one.short).join(', '));
    return { z, flags, label: `Mean of ${a} − mean of ${b} + mean of ${c}` };
  }

  draw(group, active) {
    const { canvas, pictures, members, name } = group;
    group.box.classList.toggle('active', active);
    group.button.setAttribute('aria-pressed', String(active));
    group.button.textContent = active ? `Filling ${name}` : `Fill ${name}`;
    canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute('aria-label', pictures.length ? `Mean of group ${name}` : `Group ${name} is empty`);
    if (pictures.length) {
      this.generator.later('sum', [mean(pictures.map((one) => one.z))], (rgba) => paint(canvas, rgba, this.spec));
    }
    members.replaceChildren(
      ...pictures.map((picture) => {
        const small = canvasFor(this.spec);
        if (picture.rgba) paint(small, picture.rgba, this.spec);
        const words = `Remove ${picture.label}`;
        const member = make('button', { title: words, 'aria-label': words }, small);
        member.onclick = () => {
          group.pictures = group.pictures.filter((one) => one !== picture);
          this.activate(this.groups.indexOf(group));
        };
        return member;
      }),
    );
  }
}
