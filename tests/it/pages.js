// Shows a page, `html`, in frames of several widths, uses it, and tells what it finds.
for (const width of [340, 390, 1200]) {
    const frame = document.createElement('iframe');
    frame.style.width = width + 'px'; frame.style.border = 0;
    frame.onload = () => {
        const inner = frame.contentDocument;
        const out = document.createElement('p');
        const bars = inner.querySelectorAll('rect.whole'), all = what => [...inner.querySelectorAll(what)];
        const cards = all('.cards div').map(card => card.getBoundingClientRect().right);
        const rows = new Map(all('.cards div').map(card =>
            [card.getBoundingClientRect().bottom, card.getBoundingClientRect().right]));
        const full = [...rows.values()].every(right => Math.abs(right - Math.max(...cards)) < 1);
        out.textContent = `width ${width} fits ${inner.documentElement.scrollWidth <= width} ` +
            `full ${full} drawn ${bars.length > 5 && bars[0].getBoundingClientRect().width > 2}`;
        const find = inner.querySelector('input'), said = inner.querySelector('output');
        const shown = () => all('.layers tbody tr').filter(row => !row.hidden);
        const key = (element, key) => element.dispatchEvent(
            new frame.contentWindow.KeyboardEvent('keydown', { key, cancelable: true }));
        find.value = 'CONV stages.1';
        find.dispatchEvent(new frame.contentWindow.Event('input'));
        const before = said.textContent.split(':')[0];
        key(find, 'Enter');
        out.textContent += ` found ${shown().length} dim ${all('.dim').length} ${before}, ` +
            `${said.textContent.split(' (')[0]} marked ${all('.here').length}`;
        find.value = '';
        find.dispatchEvent(new frame.contentWindow.Event('input'));
        const map = inner.querySelector('.map'), wide = () => map.firstElementChild.clientWidth;
        const first = wide();
        key(map, '+');
        const larger = wide() / first;
        key(map, '0');
        out.textContent += ` zoom ${larger.toFixed(2)} ${(wide() / first).toFixed(2)}`;
        all('.layers th button')[2].click();
        const sorted = shown().map(row => Number(row.cells[2].dataset.by));
        out.textContent += ` sorted ${sorted.every((by, at) => !at || by <= sorted[at - 1])}`;
        document.body.append(out);
    };
    frame.srcdoc = html; document.body.append(frame);
}
