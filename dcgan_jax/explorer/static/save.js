// What leaves the page: files and text.

import { make, say } from './dom.js';

function download(blob, name) {
  const link = make('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`Saved ${name}`);
}

// An image, RGBA, enlarged with sharp pixels.
function enlarged(rgba, { width, height }, zoom) {
  const canvas = make('canvas', { width: width * zoom, height: height * zoom });
  const small = make('canvas', { width, height });
  small.getContext('2d').putImageData(new ImageData(rgba.slice(), width, height), 0, 0);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  return canvas;
}

export async function savePng(rgba, size, zoom, name) {
  const blob = await new Promise((done) => enlarged(rgba, size, zoom).toBlob(done, 'image/png'));
  download(blob, `${name}.png`);
}

// Frames, each RGBA, as a looping GIF.
export async function saveGif(frames, size, zoom, delay, name) {
  const { GIFEncoder, quantize, applyPalette } = await import('./vendor/gifenc.esm.js');
  const file = GIFEncoder();
  for (const rgba of frames) {
    const canvas = enlarged(rgba, size, zoom);
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const palette = quantize(rgba, 256);
    file.writeFrame(applyPalette(data, palette), canvas.width, canvas.height, { palette, delay, repeat: 0 });
    await new Promise((done) => setTimeout(done)); // The page answers between frames.
  }
  file.finish();
  download(new Blob([file.bytes()], { type: 'image/gif' }), `${name}.gif`);
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
