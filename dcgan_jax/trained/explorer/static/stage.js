// The large picture, what it is, and what can be taken away of it.

import { find, paint, say } from './dom.js';
import { copy, saveLatent, savePng } from './save.js';

// A picture is {z, label, ...}; of an image of a seed it has seed, index and maybe class as well, and
// of anything else maybe the command, a list of flags, that draws it among others.
export class Stage {
  constructor(spec, generator) {
    this.spec = spec;
    this.generator = generator;
    this.drawn = null; // the picture that is shown, with its pixels
    this.canvas = find('picture');
    this.canvas.width = spec.image.width;
    this.canvas.height = spec.image.height;
    this.fit();
    new ResizeObserver(() => this.fit()).observe(this.canvas.parentElement);
    find('png').onclick = () => this.savePng();
    find('copy-command').onclick = () => copy(find('command').textContent, 'the command');
    find('copy-z').onclick = () => copy(JSON.stringify([...this.drawn.z].map((x) => +x.toPrecision(9))), 'z');
    find('save-z').onclick = () => saveLatent(this.drawn.z);
  }

  // All pixels are equally large: the picture takes a whole multiple of its size.
  fit() {
    const { width, height } = this.spec.image;
    const room = this.canvas.parentElement.clientWidth;
    const zoom = Math.max(room / Math.max(width, height), 1e-9);
    const whole = zoom > 2 ? Math.floor(zoom) : zoom;
    this.canvas.style.width = `${whole * width}px`;
    this.canvas.style.height = `${whole * height}px`;
  }

  // Draws a picture, unless another is asked for before its turn has come. Returns its pixels, or null.
  async show(picture) {
    const asked = performance.now();
    const rgba = await this.generator.now(picture.z);
    if (!rgba) return null;
    this.put(picture, rgba);
    performance.measure('draw', { start: asked, end: performance.now() });
    return rgba;
  }

  // Shows a picture that is drawn already.
  put(picture, rgba) {
    paint(this.canvas, rgba, this.spec);
    this.drawn = { ...picture, rgba };
    this.canvas.setAttribute('aria-label', picture.label);
    find('caption').textContent = picture.label;
    find('caption').title = picture.label;
    find('recipe').textContent = this.recipe(picture);
    find('command').textContent = this.command(picture);
  }

  recipe({ seed, z, flags }) {
    if (flags) return 'This command draws it, and what is around it:';
    if (seed !== undefined) return 'This command draws it last, in the folder pictures:';
    return `Save z.npy, its ${z.length} numbers, where you run this command:`;
  }

  command({ seed, index, name, flags }) {
    const run = ['python main.py', `--workdir=${quote(this.spec.workdir)}`];
    if (this.spec.checkpoint !== null) run.push(`--checkpoint=${this.spec.checkpoint}`);
    if (flags) return [...run, '--mode=walk', ...flags].join(' \\\n  ');
    if (seed === undefined) return [...run, '--mode=sample --latents=z.npy --out=picture.png'].join(' \\\n  ');
    const told = name === undefined ? [] : [`--class=${quote(name)}`];
    const numbers = [`--mode=sample --seed=${seed} --num=${index + 1}`, ...told, '--out=pictures'];
    return [...run, numbers.join(' ')].join(' \\\n  ');
  }

  savePng() {
    if (!this.drawn) return say('There is no picture yet');
    const { label, rgba } = this.drawn;
    return savePng(rgba, this.spec.image, Number(find('zoom').value), fileName(this.spec.title, label));
  }
}

// A text as one word of a shell's command.
const quote = (text) => (/^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

// A name of a file made of letters, digits and hyphens.
export const fileName = (...texts) =>
  texts.join(' ').toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, '-').replaceAll(/^-+|-+$/g, '').slice(0, 80);
