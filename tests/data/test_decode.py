import numpy as np
from PIL import Image

from benchmarks import fuzz_inputs
from dcgan_jax.data import Fit, decode
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


def test_four_channels_are_colours_multiplied_by_their_opacity():
  fit = Fit((2, 2), 4, background=(0, 255, 0))  # which no one sees
  assert (fit(Image.new('RGBA', (2, 2), (200, 100, 50, 0))) == 0).all()
  assert (fit(Image.new('RGBA', (2, 2), (255, 101, 0, 128))) == (128, 51, 0, 128)).all()
  assert (fit(Image.new('RGB', (2, 2), (9, 8, 7))) == (9, 8, 7, 255)).all()  # What has no opacity is opaque.
  assert (fit(Image.new('L', (2, 2), 77)) == (77, 77, 77, 255)).all()
  assert (fit(Image.new('CMYK', (2, 2), (0, 255, 255, 0))) == (255, 0, 0, 255)).all()
  palette = Image.new('P', (2, 2), 1)
  palette.putpalette([0, 0, 0, 0, 0, 255])
  assert (fit(palette) == (0, 0, 255, 255)).all()
  palette.info['transparency'] = 1
  assert (fit(palette) == 0).all()


def test_what_cannot_be_seen_does_not_bleed_into_what_can():
  """Resizes a white square beside pixels that are invisible and green."""
  pixels = np.zeros((8, 8, 4), np.uint8)
  pixels[..., 1] = 255
  pixels[:, :3] = 255
  small = Fit((4, 4), 4, 'squash')(Image.fromarray(pixels))
  assert (small[..., :3] == small[..., 3:]).all()  # It is white everywhere, more or less opaque.
  assert 0 < small[0, 1, 3] < 255 and small[0, 0, 3] == 255 and small[0, 3, 3] == 0


def test_exif_rotation(tmp_path, bands):
  exif = Image.Exif()
  exif[274] = 3  # upside down
  bands.save(tmp_path / 'turned.png', exif=exif)
  source = open_folder(tmp_path, Fit((4, 6), 3, 'squash'))
  image = source.read([0])[0]
  assert (image[:, 0] == BLUE).all() and (image[:, -1] == RED).all()


def test_narrow_pictures_keep_a_pixel():
  for shape in ((1, 500), (500, 1)):
    narrow = Fit((4, 16), 1)(Image.fromarray(np.full(shape, 90, np.uint8)))
    assert narrow.shape == (4, 16, 1) and (narrow == 90).all()


def test_bombs_and_other_formats_are_no_images(tmp_path):
  """Treats pictures above Pillow's size limit or in other formats as unreadable."""
  (tmp_path / 'bomb.png').write_bytes(fuzz_inputs.bomb(10_000, 9_999))
  (tmp_path / 'large.png').write_bytes(fuzz_inputs.bomb(40_000, 40_000))
  Image.new('L', (9, 9), 70).save(tmp_path / 'tiff.png', 'TIFF')
  Image.new('RGB', (9, 9)).save(tmp_path / 'eps.png', 'EPS')
  Image.new('L', (9, 9), 70).save(tmp_path / 'jpeg.png', 'JPEG')  # People name them so.
  fit = Fit((4, 4), 1)
  for path in tmp_path.iterdir():
    assert decode.is_image(path) == (path.name == 'jpeg.png')
    assert (decode.read(path, fit) is None) == (path.name != 'jpeg.png')


def test_large_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
  monkeypatch.setattr(decode, 'LARGE', 50)
  held = []
  monkeypatch.setattr(Fit, '__call__', lambda self, image: held.append(decode._alone.locked()))
  for size in (5, 9):
    Image.new('L', (size, size)).save(tmp_path / 'x.png')
    decode.read(tmp_path / 'x.png', Fit((4, 4), 1))
  assert held == [False, True]
