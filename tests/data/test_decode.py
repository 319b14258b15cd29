import numpy as np
from PIL import Image

from dcgan_jax.data import Fit
from dcgan_jax.data.sources import open_folder

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_crop_keeps_the_centre_and_squash_everything(bands):
  crop = Fit((4, 4), 3, 'crop')(bands)
  assert crop.shape == (4, 4, 3) and (crop == GREEN).all()
  squash = Fit((4, 6), 3, 'squash')(bands)
  assert (squash[:, 0] == RED).all() and (squash[:, -1] == BLUE).all()
  tall = Fit((4, 4), 3, 'crop')(bands.rotate(90, expand=True))
  assert (tall == GREEN).all()
  wide = Fit((2, 6), 3, 'crop')(bands)  # The picture has this shape, 1:3, already.
  assert (wide[:, 0] == RED).all() and (wide[:, 5] == BLUE).all()


def test_resize_is_anti_aliased():
  stripes = np.zeros((64, 64), np.uint8)
  stripes[:, ::2] = 255
  small = Fit((8, 8), 1)(Image.fromarray(stripes))
  assert np.abs(small.astype(int) - 127).max() < 20  # Sampling without averaging gives 0 or 255.


def test_alpha_palette_gray_cmyk_and_16_bits():
  fit = Fit((2, 2), 3, background=(0, 255, 0))
  clear = Image.new('RGBA', (2, 2), (255, 0, 0, 0))
  assert (fit(clear) == GREEN).all()
  half = Image.new('RGBA', (2, 2), (255, 0, 0, 128))
  np.testing.assert_allclose(fit(half)[0, 0], (128, 127, 0), atol=1)
  palette = Image.new('P', (2, 2), 1)
  palette.putpalette([0, 0, 0, 0, 0, 255])
  assert (fit(palette) == BLUE).all()
  palette.info['transparency'] = 1
  assert (fit(palette) == GREEN).all()
  assert (fit(Image.new('L', (2, 2), 77)) == 77).all()
  assert (fit(Image.new('LA', (2, 2), (77, 0))) == GREEN).all()
  assert (fit(Image.new('CMYK', (2, 2), (0, 255, 255, 0))) == RED).all()
  sixteen = Image.fromarray(np.full((2, 2), 0x80FF, np.uint16))
  assert (fit(sixteen) == 0x80).all()
  assert (fit(Image.new('1', (2, 2), 1)) == 255).all()
  gray = Fit((2, 2), 1)(Image.new('RGB', (2, 2), GREEN))
  assert gray.shape == (2, 2, 1) and (gray == 150).all()  # luma 0.587


def test_exif_rotation(tmp_path, bands):
  exif = Image.Exif()
  exif[274] = 3  # upside down
  bands.save(tmp_path / 'turned.png', exif=exif)
  source = open_folder(tmp_path, Fit((4, 6), 3, 'squash'))
  image = source.read([0])[0]
  assert (image[:, 0] == BLUE).all() and (image[:, -1] == RED).all()
