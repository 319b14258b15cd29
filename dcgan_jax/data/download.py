"""Downloads through the proxy of the environment, with a fast failure if there is no network.

HTTPS_PROXY and HTTP_PROXY set the proxy, ALL_PROXY sets both, and NO_PROXY lists the hosts that need none.
"""

import errno
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable

TIMEOUT = 5.0  # seconds to connect
PATIENCE = 10.0  # seconds in total, because DNS look-ups have no timeout of their own
REFUSED = (407, 502, 503, 504)  # responses of a proxy that cannot or will not reach the host


def opener() -> urllib.request.OpenerDirector:
  """Returns a URL opener that uses the proxy of the environment, if any."""
  proxies = urllib.request.getproxies()
  if 'all' in proxies:
    proxies = {'http': proxies['all'], 'https': proxies['all']} | proxies
  return urllib.request.build_opener(urllib.request.ProxyHandler(proxies))


def read(url: str, most: int) -> bytes:
  """Downloads a file into memory, so that a failed download leaves nothing on disk.

  Args:
    url: URL of the file.
    most: Maximum size in bytes.

  Raises:
    OSError: The download fails, or the file is larger.
    http.client.HTTPException: The server closes the connection or does not speak HTTP.
  """
  with opener().open(url, timeout=60) as response:
    content = response.read(most + 1)
  if len(content) > most:
    raise OSError(errno.EFBIG, f'it has more than {most:,} bytes, the most that are taken')
  return content


def why_unreachable(urls: Iterable[str]) -> str | None:
  """Returns why no host can be reached, in words; None if one responds or there is none to ask.

  Args:
    urls: URLs of the files. One per host is requested, for at most three hosts.
  """
  hosts = {
    urllib.parse.urlsplit(url).hostname: url for url in urls if url.startswith(('http://', 'https://'))
  }
  reasons = []
  for host, url in list(hosts.items())[:3]:
    reason = _ask(url)
    if reason is None:
      return None
    reasons.append(f'{host} cannot be reached{_by_proxy(url)} ({reason})')
  return reasons[0] if reasons else None


def _ask(url: str) -> str | None:
  """Requests a URL; returns why its host cannot be reached, None if it can."""
  reasons = [f'no answer in {PATIENCE:.0f} seconds']

  def ask() -> None:
    reasons.append(_head(url))

  asking = threading.Thread(target=ask, daemon=True)
  asking.start()
  asking.join(PATIENCE)
  return reasons[-1] or None


def _head(url: str) -> str:
  """Sends a HEAD request; returns the reason of a failure, '' for none."""
  try:
    with opener().open(urllib.request.Request(url, method='HEAD'), timeout=TIMEOUT):
      return ''
  except urllib.error.HTTPError as error:
    return f'HTTP {error.code}, {error.reason}' if error.code in REFUSED else ''
  except (OSError, ValueError) as error:  # no host, no route, no proxy; or an invalid proxy address
    return reason_of(error)
  except Exception:  # Any other response shows that the host is reachable.
    return ''


def reason_of(error: BaseException) -> str:
  """Returns the root cause of a network error, in words."""
  inner = getattr(error, 'reason', error)
  if isinstance(inner, TimeoutError | socket.timeout):
    return 'timed out'
  return str(getattr(inner, 'strerror', None) or inner) or type(inner).__name__


def _by_proxy(url: str) -> str:
  """Returns the proxy of a URL in words, without its password; '' for none."""
  parts = urllib.parse.urlsplit(url)
  proxies = urllib.request.getproxies()
  proxy = proxies.get(parts.scheme) or proxies.get('all')
  if not proxy or urllib.request.proxy_bypass(parts.netloc):
    return ''
  return f' through the proxy {proxy.rpartition("@")[2].rpartition("//")[2]}'
