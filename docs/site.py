"""Of a link that leaves docs/, the site shows the text and the path: the file is not part of it."""

import posixpath
import re

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def on_page_markdown(markdown, page, **_):
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link):
        text, target = link.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target.split("#")[0]))
        if "://" in target or path == "docs" or path.startswith("docs/"):
            return link.group()
        return text if path in text else f"{text} (`{path}`)"

    return LINK.sub(shown, markdown)
