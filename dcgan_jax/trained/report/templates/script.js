'use strict';

const read = (element) => JSON.parse(element.querySelector('script[type="application/json"]').textContent);
const still = matchMedia('(prefers-reduced-motion: reduce)');
const number = (x) => Number(Math.abs(x) < 1e4 ? x.toPrecision(4) : Math.round(x))
  .toLocaleString('en-US', { maximumFractionDigits: 6 });

// A mean and its deviation, both to the second digit of the latter.
const spread = (mean, deviation) => {
  const decimals = deviation > 0 ? Math.max(0, 1 - Math.floor(Math.log10(deviation))) : 7;
  const fixed = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  const texts = [mean, deviation].map((x) => (decimals > 6 ? number(x) : x.toLocaleString('en-US', fixed)));
  return texts.join(' ± ');
};

// Switches between light and dark; the page begins as the reader's system is.
const theme = document.getElementById('theme');
theme.hidden = false;
theme.addEventListener('click', () => {
  const root = document.documentElement.classList;
  const dark = root.contains('dark') || (!root.contains('light') && matchMedia('(prefers-color-scheme: dark)').matches);
  root.toggle('dark', !dark);
  root.toggle('light', dark);
});

// Calls `advance` several times a second while the button says so. Returns a function that stops or goes on.
function clock(button, perSecond, advance) {
  let playing = false;
  let last = 0;
  const tick = (now) => {
    if (!playing) return;
    if (now - last >= 1000 / perSecond) {
      last = now;
      advance();
    }
    requestAnimationFrame(tick);
  };
  const play = (on) => {
    if (on && !playing) requestAnimationFrame(tick);
    playing = on;
    button.textContent = on ? 'Pause' : 'Play';
  };
  button.hidden = false;
  button.addEventListener('click', () => play(!playing));
  return play;
}

// Pictures over training: a slider, which a button moves on.
for (const film of document.querySelectorAll('.film')) {
  const frames = read(film);
  const [image, slider, output] = ['img', 'input', 'output'].map((name) => film.querySelector(name));
  // Decoded before they are shown, so that the picture does not flicker.
  const decoded = frames.map(([, address]) => Object.assign(new Image(), { src: address }));
  const show = () => {
    const [step] = frames[slider.value];
    image.src = decoded[slider.value].src;
    image.alt = `Generated images at step ${step}`;
    output.textContent = `step ${step.toLocaleString('en-US')}`;
    slider.setAttribute('aria-valuetext', output.textContent);
  };
  const play = clock(film.querySelector('button'), 5, () => {
    slider.value = (Number(slider.value) + 1) % frames.length;
    show();
    if (Number(slider.value) === frames.length - 1) play(false);
  });
  slider.hidden = false;
  slider.addEventListener('input', () => {
    play(false);
    show();
  });
  show();
}

// The walk: all images lie in one picture, a row from each latent to the next, and each canvas shows one at a time.
for (const walk of document.querySelectorAll('.walk')) {
  const sprite = walk.querySelector('img');
  const loop = walk.querySelector('.loop');
  const points = Number(walk.dataset.points);
  const frames = Number(walk.dataset.frames);
  sprite.decode().then(() => {
    const width = sprite.naturalWidth / frames;
    const height = sprite.naturalHeight / points;
    const factor = Math.max(1, Math.ceil(160 / width));
    const canvases = Array.from({ length: points }, () =>
      Object.assign(document.createElement('canvas'), { width: Math.round(width * factor), height: Math.round(height * factor) }));
    let now = 0;
    const draw = () => canvases.forEach((canvas, i) => {
      const at = (now + i * frames) % (points * frames);
      const context = canvas.getContext('2d');
      context.imageSmoothingEnabled = false;
      context.drawImage(sprite, (at % frames) * width, Math.floor(at / frames) * height, width, height, 0, 0, canvas.width, canvas.height);
    });
    loop.append(...canvases);
    draw();
    loop.hidden = false;
    sprite.hidden = true;
    const play = clock(walk.querySelector('button'), 12, () => {
      now += 1;
      draw();
    });
    play(!still.matches);
    still.addEventListener('change', () => play(!still.matches));
  });
}

// Charts: a line at the step under the pointer, or moved by the arrow keys, and the values there in the legend.
for (const chart of document.querySelectorAll('.chart')) {
  const { low, high, curves } = read(chart);
  const plot = chart.querySelector('.plot > svg');
  const cursor = chart.querySelector('.cursor');
  const at = chart.querySelector('.at b');
  const values = [...chart.querySelectorAll('.legend b')];
  const usual = [...values, at].map((element) => element.textContent);
  let step = high;
  const nearest = (steps) => {
    let least = 0;
    for (let i = 1; i < steps.length; i += 1) {
      if (Math.abs(steps[i] - step) < Math.abs(steps[least] - step)) least = i;
    }
    return least;
  };
  const show = () => {
    const longest = curves.reduce((a, b) => (b[0].length > a[0].length ? b : a))[0];
    const place = longest[nearest(longest)];
    const x = `${(100 * (place - low)) / (high - low)}%`;
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    cursor.setAttribute('visibility', 'visible');
    curves.forEach(([steps, numbers, deviations], i) => {
      const there = nearest(steps);
      values[i].textContent = deviations ? spread(numbers[there], deviations[there]) : number(numbers[there]);
    });
    at.textContent = place.toLocaleString('en-US');
  };
  const leave = () => {
    step = high;
    cursor.setAttribute('visibility', 'hidden');
    [...values, at].forEach((element, i) => { element.textContent = usual[i]; });
  };
  plot.addEventListener('pointermove', (event) => {
    const box = plot.getBoundingClientRect();
    step = low + ((high - low) * (event.clientX - box.left)) / box.width;
    show();
  });
  plot.addEventListener('pointerleave', leave);
  plot.addEventListener('focus', () => { if (plot.matches(':focus-visible')) show(); });
  plot.addEventListener('blur', leave);
  plot.addEventListener('keydown', (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    step = Math.min(high, Math.max(low, step + (moves[event.key] * (high - low)) / 50));
    show();
  });
}
