"""A preprocessor of mdBook. Links to chapters of the guide stay links; links to items of a crate,
which only rustdoc can resolve, become their text."""

import json
import re
import sys

LINK = re.compile(r"\[([^\[\]]+)\]\(((?:crate|cpg)::[\w:]+)\)")


def replace(link):
    text, item = link.groups()
    chapter = re.fullmatch(r"crate::guide::(\w+)", item)
    return f"[{text}]({chapter[1]}.md)" if chapter else text


def visit(items):
    for item in items:
        if "Chapter" in item:
            chapter = item["Chapter"]
            chapter["content"] = LINK.sub(replace, chapter["content"])
            visit(chapter["sub_items"])


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
_, book = json.load(sys.stdin)
visit(book.get("items") or book["sections"])
json.dump(book, sys.stdout)
