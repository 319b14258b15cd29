// What leaves the page: files and text.

import { make, say } from './dom.js';

function download(blob, name) {
  const link = make('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`Saved ${name}`);
}

// An image, RGBA, enlarged with sharp pixels.
export async function savePng(rgba, { width, height }, zoom, name) {
  const canvas = make('canvas', { width: width * zoom, height: height * zoom });
  const small = make('canvas', { width, height });
  small.getContext('2d').putImageData(new ImageData(rgba.slice(), width, height), 0, 0);
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  download(await new Promise((done) => canvas.toBlob(done, 'image/png')), `${name}.png`);
}

// Frames, each RGBA, enlarged with sharp pixels, as a looping GIF. A frame of more than 256 colours gets 256 close to
// them.
export async function saveGif(frames, { width, height }, zoom, delay, name) {
  const { GIFEncoder, quantize, applyPalette } = await import('./vendor/gifenc.esm.js');
  const file = GIFEncoder();
  for (const drawn of frames) {
    const rgba = onWhite(drawn);
    let [palette, numbers] = exactPalette(rgba);
    if (palette.length > 256) {
      palette = quantize(rgba, 256);
      numbers = applyPalette(rgba, palette);
    }
    const large = new Uint8Array(width * height * zoom ** 2);
    for (let y = 0, to = 0; y < height * zoom; y++) {
      for (let x = 0; x < width * zoom; x++) large[to++] = numbers[Math.floor(y / zoom) * width + Math.floor(x / zoom)];
    }
    file.writeFrame(large, width * zoom, height * zoom, { palette, delay, repeat: 0 });
    await new Promise((done) => setTimeout(done)); // The page answers between frames.
  }
  file.finish();
  download(new Blob([file.bytes()], { type: 'image/gif' }), `${name}.gif`);
}

// An image, RGBA, on white where it is transparent; the colours of a GIF have no alpha.
function onWhite(rgba) {
  return rgba.map((value, i) => {
    const alpha = rgba[i - (i % 4) + 3];
    return i % 4 === 3 ? 255 : Math.round((value * alpha) / 255 + 255 - alpha);
  });
}

// All colours of an image, RGBA, and the number of the colour of each pixel.
function exactPalette(rgba) {
  const colours = new Map();
  const numbers = Array.from({ length: rgba.length / 4 }, (_, i) => {
    const colour = rgba.subarray(4 * i, 4 * i + 3);
    const name = colour.join();
    if (!colours.has(name)) colours.set(name, { number: colours.size, colour: [...colour] });
    return colours.get(name).number;
  });
  return [[...colours.values()].map((one) => one.colour), numbers];
}

// A latent as a file for `--latents`: float32 [1, width] in NumPy's format, version 1.0.
export function saveLatent(latent, name = 'z') {
  let header = `{'descr': '<f4', 'fortran_order': False, 'shape': (1, ${latent.length}), }`;
  header = `${header.padEnd(127 - 10)}\n`; // 128 bytes with the ten before it
  const bytes = new Uint8Array(128 + 4 * latent.length);
  bytes.set([0x93, ...new TextEncoder().encode('NUMPY'), 1, 0, header.length, 0]);
  bytes.set(new TextEncoder().encode(header), 10);
  const view = new DataView(bytes.buffer);
  latent.forEach((x, i) => view.setFloat32(128 + 4 * i, x, true));
  download(new Blob([bytes]), `${name}.npy`);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard; the old way needs a field with the text in it.
    const field = make('textarea', { value: text, className: 'away' });
    document.body.append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
  say(`Copied ${what}`);
}
