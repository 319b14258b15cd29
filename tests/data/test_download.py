"""Downloads without a network, and through real local proxies."""

import contextlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, environment

from dcgan_jax.data import download
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import inception

NOWHERE = 'http://127.0.0.1:9'  # where nothing listens


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
  for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy():
  """A proxy that answers everything itself: (address, received requests, status)."""
  asked, status = [], [200]

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
      asked.append(self.path)
      self.send_response(status[0])
      self.end_headers()

    def do_CONNECT(self):
      asked.append(self.path)
      self.send_response(403)
      self.end_headers()

    def log_message(self, *_):
      pass

  server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  yield f'http://user:secret@127.0.0.1:{server.server_port}', asked, status
  server.shutdown()
  thread.join()
  server.server_close()


def test_a_host_that_does_not_answer_is_named(monkeypatch):
  assert download.why_unreachable([]) is None and download.why_unreachable(['file:///x']) is None
  reason = download.why_unreachable([f'{NOWHERE}/a', f'{NOWHERE}/b'])
  assert reason == '127.0.0.1 cannot be reached (Connection refused)'
  assert 'no-such-host.invalid cannot be reached' in download.why_unreachable(['http://no-such-host.invalid'])


@pytest.mark.parametrize('variable', ['HTTP_PROXY', 'ALL_PROXY'])
def test_a_proxy_is_asked(monkeypatch, proxy, variable):
  address, asked, status = proxy
  monkeypatch.setenv(variable, address)
  assert download.why_unreachable(['http://no-such-host.invalid/file']) is None
  assert asked == ['http://no-such-host.invalid/file']
  status[0] = 404  # The host has answered, though it has no such file.
  assert download.why_unreachable(['http://no-such-host.invalid/file']) is None
  status[0] = 502
  reason = download.why_unreachable(['http://no-such-host.invalid/file'])
  assert 'through the proxy 127.0.0.1:' in reason and 'HTTP 502' in reason and 'secret' not in reason
  monkeypatch.setenv('NO_PROXY', '.invalid')
  assert 'proxy' not in download.why_unreachable(['http://no-such-host.invalid/file'])


def test_a_proxy_that_refuses_is_named(monkeypatch, proxy):
  monkeypatch.setenv('HTTPS_PROXY', proxy[0])
  reason = download.why_unreachable(['https://no-such-host.invalid/file'])
  assert 'no-such-host.invalid cannot be reached through the proxy' in reason and '403' in reason


def test_a_name_that_is_looked_up_without_end_is_given_up(monkeypatch):
  over = threading.Event()
  monkeypatch.setattr(download, 'PATIENCE', 0.1)
  monkeypatch.setattr(download, '_head', lambda url: str(over.wait()))
  assert download.why_unreachable(['http://slow.invalid']).endswith('(no answer in 0 seconds)')
  over.set()


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv('HTTPS_PROXY', NOWHERE)
  with pytest.raises(
    InputError, match=r'github\.com cannot be reached through the proxy 127\.0\.0\.1:9'
  ) as error:
    inception.download(tmp_path / 'cache' / 'weights.pth')
  assert f'put it at {tmp_path}/cache/weights.pth' in str(error.value)
  assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ''


@pytest.fixture
def server():
  """A server of an endless file: (address, whether some was sent, whether to send more)."""
  sent, more = threading.Event(), threading.Event()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
      self.send_response(200)
      self.end_headers()

    def do_GET(self):
      self.do_HEAD()
      with contextlib.suppress(OSError):
        self.wfile.write(b'x' * 2**16)
        sent.set()
        while more.wait():
          self.wfile.write(b'x' * 2**16)

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  yield f'http://127.0.0.1:{server.server_port}/weights.pth', sent, more
  more.set()
  server.shutdown()
  thread.join()
  server.server_close()


def test_a_file_without_an_end_is_given_up(monkeypatch, tmp_path, server):
  address, _, more = server
  more.set()
  assert download.read('data:,12', 2) == b'12'
  with pytest.raises(OSError, match='more than 100,000 bytes'):
    download.read(address, 100_000)
  monkeypatch.setattr(inception, 'URL', address)
  monkeypatch.setattr(inception, 'MOST_BYTES', 100_000)
  with pytest.raises(InputError, match='cannot be downloaded: it has more than 100,000 bytes'):
    inception.download(tmp_path / 'weights' / 'weights.pth')
  assert not list(tmp_path.glob('weights/*'))


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_download_that_is_stopped_leaves_nothing_behind(tmp_path, server, number):
  address, sent, _ = server
  code = (  # A process that a shell has started in the background ignores SIGINT.
    'import pathlib, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); '
    'from dcgan_jax.evaluation import inception; inception.URL = sys.argv[1]; '
    'inception.download(pathlib.Path(sys.argv[2]))'
  )
  command = [sys.executable, '-c', code, address, str(tmp_path / 'weights' / 'weights.pth')]
  process = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
  assert sent.wait(60)
  process.send_signal(number)
  assert process.wait(60) != 0
  assert not list(tmp_path.glob('weights/*'))


@pytest.mark.slow
def test_a_data_set_that_cannot_be_downloaded_is_one_line_at_once(tmp_path):
  """Runs the command of the README without a network."""
  pytest.importorskip('tensorflow')
  command = [sys.executable, 'main.py', '--config=configs/cifar10.py', f'--workdir={tmp_path}/run']
  env = environment() | {'HTTPS_PROXY': NOWHERE, 'TFDS_DATA_DIR': str(tmp_path / 'tfds')}
  began = time.monotonic()
  done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
  assert time.monotonic() - began < 60  # It takes 5 s on an idle machine, and took over 120 s before.
  assert done.returncode == 2 and done.stdout == '' and done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: data.source=tfds:cifar10: is not in ')
  assert (
    'www.cs.toronto.edu cannot be reached through the proxy 127.0.0.1:9 (Connection refused)' in done.stderr
  )
  assert "t.builder('cifar10', data_dir='FOLDER').download_and_prepare" in done.stderr
  assert os.listdir(tmp_path) == []
