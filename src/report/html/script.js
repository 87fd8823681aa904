// Finds layers in the drawing and the table, zooms the drawing and sorts the table.
(() => {
  const tools = document.querySelector('.tools');
  if (!tools) return;
  const map = document.querySelector('.map'), svg = map.querySelector('svg');
  const bars = [...svg.querySelectorAll('a')];
  const body = document.querySelector('.layers tbody'), rows = [...body.rows];
  const find = tools.querySelector('input'), said = tools.querySelector('output');
  tools.hidden = false;

  // The width as at first, then times the zoom; what is in the middle stays there.
  let zoom = 1, width;
  const scale = (to, x = map.clientWidth / 2, y = map.clientHeight / 2) => {
    if (zoom === 1) width = svg.getBoundingClientRect().width;
    const old = zoom, whole = map.clientHeight / (svg.getBoundingClientRect().height / old);
    zoom = Math.min(8, Math.max(Math.min(1, whole), to < 0 ? whole : to));
    svg.style.width = svg.style.maxWidth = zoom === 1 ? '' : `${width * zoom}px`;
    const by = zoom / old;
    map.scrollTo((map.scrollLeft + x) * by - x, (map.scrollTop + y) * by - y);
  };
  const press = step => scale(step > 0 ? zoom * step : step || 1);
  for (const button of tools.querySelectorAll('[data-zoom]'))
    button.onclick = () => press(Number(button.dataset.zoom));
  map.addEventListener('wheel', event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = map.getBoundingClientRect();
    scale(zoom * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  map.onkeydown = event => {
    const step = { '+': 1.25, '=': 1.25, '-': 0.8, '0': 0 }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    press(step);
  };

  // Layers are named by their place in the file, whatever the table is sorted by.
  const place = element => Number(element.id.slice(3));
  const inside = (box, element) => {
    const outer = box.getBoundingClientRect(), inner = element.getBoundingClientRect();
    box.scrollBy(inner.left + inner.width / 2 - outer.left - box.clientWidth / 2,
      inner.top + inner.height / 2 - outer.top - box.clientHeight / 2);
  };
  let found = rows, at = -1;
  const show = (index, count) => {
    const row = rows[index];
    for (const old of document.querySelectorAll('.here')) old.classList.remove('here');
    for (const [box, element] of [[map, bars[index]], [body.closest('.box'), row]]) {
      element.classList.add('here');
      if (!element.hidden) inside(box, element);
    }
    said.textContent = (count ? count + ': ' : '') + bars[index].querySelector('title').textContent;
  };
  const go = step => {
    if (!found.length) return;
    at = (at + step + found.length) % found.length;
    show(place(found[at]), `${at + 1} of ${found.length}`);
  };
  find.oninput = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = row => words.every(word => row.cells[0].textContent.toLowerCase().includes(word));
    found = [];
    for (const row of body.rows) {
      row.hidden = !fits(row);
      bars[place(row)].classList.toggle('dim', row.hidden);
      if (!row.hidden) found.push(row);
    }
    at = -1;
    said.textContent = found.length ? '' : 'no layer has that in its name';
    if (words.length) go(1);
  };
  find.onkeydown = event => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    go(event.shiftKey ? -1 : 1);
  };
  for (const button of tools.querySelectorAll('[data-go]'))
    button.onclick = () => go(Number(button.dataset.go));
  for (const link of [...bars, ...rows.map(row => row.querySelector('a'))])
    link.addEventListener('click', event => {
      event.preventDefault();
      const index = Number(link.getAttribute('href').slice(4));
      at = found.indexOf(rows[index]);
      show(index);
      map.closest('.network').scrollIntoView({ block: 'nearest' });
    });

  // A click on a head sorts, another turns that about.
  document.querySelectorAll('.layers th').forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const falls = head.ariaSort ? head.ariaSort === 'ascending' : 'falls' in head.dataset;
      for (const other of head.parentNode.cells) other.ariaSort = null;
      head.ariaSort = falls ? 'descending' : 'ascending';
      const by = row => Number(row.cells[column].dataset.by);
      const sorted = [...rows].sort((a, b) => (falls ? by(b) - by(a) : by(a) - by(b)) || place(a) - place(b));
      body.append(...sorted);
      found = sorted.filter(row => !row.hidden);
      at = -1;
    };
  });
})();
