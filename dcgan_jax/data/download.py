"""Downloads: through the proxy of the environment, and refused at once where there is no network.

HTTPS_PROXY and HTTP_PROXY name the proxy, ALL_PROXY one for both, and NO_PROXY the hosts that need none.
"""

import errno
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable

TIMEOUT = 5.0  # seconds, of a connection to a host that may not be there
PATIENCE = 10.0  # seconds in all, because looking up a name has no timeout of its own
REFUSED = (407, 502, 503, 504)  # what a proxy answers that cannot, or will not, reach the host


def opener() -> urllib.request.OpenerDirector:
  """Returns what opens addresses, through the proxy of the environment if there is one."""
  proxies = urllib.request.getproxies()
  if 'all' in proxies:
    proxies = {'http': proxies['all'], 'https': proxies['all']} | proxies
  return urllib.request.build_opener(urllib.request.ProxyHandler(proxies))


def read(url: str, most: int) -> bytes:
  """Downloads a file into memory, so that nothing of it is on the disk if it fails or is stopped on the way.

  Args:
    url: its address.
    most: its largest size in bytes; no more are read.

  Raises:
    OSError: it cannot be downloaded, or is larger.
    http.client.HTTPException: the server breaks off, or answers with something else.
  """
  with opener().open(url, timeout=60) as response:
    content = response.read(most + 1)
  if len(content) > most:
    raise OSError(errno.EFBIG, f'it has more than {most:,} bytes, the most that are taken')
  return content


def why_unreachable(urls: Iterable[str]) -> str | None:
  """Returns why nothing can be downloaded, in words; None if one of the hosts answers, or none is asked.

  Args:
    urls: of the files. Only one of each host is asked for, at most three in all.
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
  """Asks a host about a file; returns why it cannot be reached, None if it can."""
  reasons = [f'no answer in {PATIENCE:.0f} seconds']

  def ask() -> None:
    reasons.append(_head(url))

  asking = threading.Thread(target=ask, daemon=True)
  asking.start()
  asking.join(PATIENCE)
  return reasons[-1] or None


def _head(url: str) -> str:
  """Asks for the header of a file; returns what is in the way, '' for nothing."""
  try:
    with opener().open(urllib.request.Request(url, method='HEAD'), timeout=TIMEOUT):
      return ''
  except urllib.error.HTTPError as error:
    return f'HTTP {error.code}, {error.reason}' if error.code in REFUSED else ''
  except (OSError, ValueError) as error:  # no host, no route, no proxy; an address of a proxy that is none
    return reason_of(error)
  except Exception:  # Whatever else the answer is, it is one.
    return ''


def reason_of(error: BaseException) -> str:
  """Returns the innermost reason of an error of the network, in words."""
  inner = getattr(error, 'reason', error)
  if isinstance(inner, TimeoutError | socket.timeout):
    return 'timed out'
  return str(getattr(inner, 'strerror', None) or inner) or type(inner).__name__


def _by_proxy(url: str) -> str:
  """Returns which proxy a file would be asked for through, in words and without its password; '' for none."""
  parts = urllib.parse.urlsplit(url)
  proxies = urllib.request.getproxies()
  proxy = proxies.get(parts.scheme) or proxies.get('all')
  if not proxy or urllib.request.proxy_bypass(parts.netloc):
    return ''
  return f' through the proxy {proxy.rpartition("@")[2].rpartition("//")[2]}'
