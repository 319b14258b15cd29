// Draws pictures of latents: at once for what the user moves, and in the order asked for everything else.

const BATCH_MILLISECONDS = 25; // of work that something urgent may have to wait for
const MOST = 16; // images in a batch
const TRIALS = 5;

// A worker with the generator in it.
export class Engine {
  constructor(device) {
    this.device = device;
    this.calls = new Map();
    this.worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module', name: device });
    this.worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.calls.get(data.id);
      this.calls.delete(data.id);
      if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    this.worker.onerror = (event) => {
      this.failure = new Error(event.message || 'its worker cannot be loaded');
      this.calls.forEach(({ reject }) => reject(this.failure));
      this.calls.clear();
    };
  }

  call(message) {
    if (this.failure) return Promise.reject(this.failure);
    const id = (this.last = (this.last ?? 0) + 1);
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message });
    });
  }

  load(spec) {
    const { height, width, channels } = spec.image;
    return this.call({ load: { model: spec.model.file, channels, pixels: height * width } });
  }

  // Draws latents: {rgba, milliseconds}, the images one after the other.
  draw(latents) {
    const z = new Float32Array(latents.length * latents[0].length);
    latents.forEach((latent, i) => z.set(latent, i * latent.length));
    return this.call({ z, count: latents.length });
  }

  close() {
    this.worker.terminate();
  }
}

export class Generator {
  // `engine` has the model loaded. `onError` is told of a failure to draw.
  constructor(engine, spec, onError) {
    this.engine = engine;
    this.bytes = spec.image.height * spec.image.width * 4;
    this.onError = onError;
    this.urgent = null;
    this.queue = [];
    this.busy = false;
    this.milliseconds = 30; // that an image takes, of late
  }

  // Draws a latent before all others. Returns its pixels, or null if another was asked for in the meantime.
  now(latent) {
    this.urgent?.resolve(null);
    return new Promise((resolve) => {
      this.urgent = { latent, resolve };
      this.next();
    });
  }

  // Draws latents one after the other when there is time; show(pixels, i) is called for each. `group` names them for
  // `cancel`. Returns when all are drawn, or cancelled.
  later(group, latents, show) {
    return new Promise((resolve) => {
      latents.forEach((latent, i) => this.queue.push({ group, latent, show: (pixels) => show(pixels, i) }));
      this.queue.push({ group, done: resolve });
      this.next();
    });
  }

  cancel(group) {
    const dropped = this.queue.filter((one) => one.group === group);
    this.queue = this.queue.filter((one) => one.group !== group);
    dropped.forEach((one) => one.done?.());
  }

  // Goes on with another engine, and closes the old one when it has drawn what it was asked for.
  async replace(engine) {
    const old = this.engine;
    this.engine = engine;
    await this.drawing?.catch(() => {}); // Whoever asked for it is told of a failure.
    old.close();
  }

  async next() {
    if (this.busy) return;
    while (!this.urgent && this.queue[0]?.done) this.queue.shift().done();
    if (!this.urgent && !this.queue.length) return;
    this.busy = true;
    const work = this.urgent ? [this.take()] : this.batch();
    try {
      this.drawing = this.engine.draw(work.map((one) => one.latent));
      const { rgba, milliseconds } = await this.drawing;
      this.milliseconds += (milliseconds / work.length - this.milliseconds) / 4;
      work.forEach((one, i) => one.show(rgba.subarray(i * this.bytes, (i + 1) * this.bytes)));
    } catch (error) {
      this.onError(error);
    }
    this.busy = false;
    this.next();
  }

  take() {
    const { latent, resolve } = this.urgent;
    this.urgent = null;
    return { latent, show: resolve };
  }

  batch() {
    const most = Math.max(1, Math.min(MOST, Math.floor(BATCH_MILLISECONDS / this.milliseconds)));
    const end = this.queue.findIndex((one) => one.done);
    return this.queue.splice(0, Math.min(most, end));
  }
}

// Returns an engine on the GPU if there is one, it draws `latent` as `same(rgba)` accepts, and it draws more images
// in a given time than `engine` does; else null.
export async function findFaster(engine, spec, latent, same, forced = false) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const emulated = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  if (!adapter || (emulated && !forced)) return null;
  const other = new Engine('webgpu');
  try {
    await other.load(spec);
    const { rgba } = await other.draw([latent]);
    if (same(rgba) && (forced || (await time(other, latent)) < (await time(engine, latent)))) return other;
  } catch (error) {
    console.info(`WebGPU is not used: ${error.message}`);
  }
  other.close();
  return null;
}

// The median time of a batch, in milliseconds.
async function time(engine, latent) {
  const latents = Array(8).fill(latent);
  const times = [];
  for (let i = 0; i < TRIALS; i++) times.push((await engine.draw(latents)).milliseconds);
  return times.sort((a, b) => a - b)[(TRIALS - 1) / 2];
}
