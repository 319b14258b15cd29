// Says in words why the page cannot work here. It is a classic script, so that it runs in old browsers and from
// file:// too, where modules do not.
(function () {
  // The smallest module with an instruction on vectors: i8x16.popcnt(i8x16.splat(0)).
  var vectors = new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
  ]);
  var problem = '';
  if (location.protocol === 'file:') {
    problem =
      'This page was opened as a file. Browsers let a page load its generator only from a server. In the folder of ' +
      'this page, run “python -m http.server --bind 127.0.0.1” and open http://localhost:8000.';
  } else if (typeof WebAssembly !== 'object' || !WebAssembly.validate(vectors)) {
    problem =
      'This browser has no WebAssembly with vector instructions, which the generator needs. Any current Chrome, ' +
      'Edge, Firefox or Safari has (since 2021, Safari since 2023).';
  } else if (typeof DecompressionStream !== 'function') {
    problem = 'This browser is too old to unpack the generator. Any current Chrome, Edge, Firefox or Safari can.';
  }
  if (problem) {
    document.getElementById('notice').textContent = problem;
  } else {
    document.documentElement.className = '';
  }
  window.explorerStopped = Boolean(problem);
})();
