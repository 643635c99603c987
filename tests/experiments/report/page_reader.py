"""Reads a page as a strict browser would: every element closed in order, everything that it asks for noted."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "line", "circle", "polyline", "mspace"}


class Page(HTMLParser):
    """Attributes: text, rows of table cells, data values, images (source), links (href), ids, problems."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.problems, self.text = [], [], ""
        self.rows, self.values, self.images, self.links, self.ids = [], [], [], [], []
        self.tags, self.alternatives, self.labels = [], [], []
        self.feed(markup)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if len(found) < len(attributes):
            self.problems.append(f"<{tag}> has an attribute twice")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "data":
            self.values.append(float(found["value"]))
        if tag == "img":
            self.images.append(found["src"])
            self.alternatives.append(found["alt"])
        if "aria-label" in found:
            self.labels.append(found["aria-label"])
        self.links += [found[name] for name in ("href", "src", "srcset", "action", "data") if name in found]
        if "id" in found:
            self.ids.append(found["id"])

    def handle_startendtag(self, tag, attributes):
        if tag not in VOID:
            self.problems.append(f"<{tag}/> closes itself")
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> out of order")

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.links += re.findall(r"url\([^)]*|@import[^;]*", data)
            return
        self.text += data
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def asks_for_nothing(self):
        """Whether all that the page refers to is inside it."""
        inside = all(link.startswith("data:") or link[1:] in self.ids for link in self.links)
        return inside and not {"script", "iframe", "object", "embed"} & set(self.tags)

    def row(self, first):
        """The cells after the one that says `first`."""
        return next(row[1:] for row in self.rows if row and row[0] == first)
