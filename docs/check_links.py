"""Checks that every relative link of the manual and of the papers at the root leads to a file, and every #fragment to a
heading. Addresses outside are not asked: the check must give the same answer without a network."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def without_code(text):
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", lambda match: "x" * len(match.group()), text)


def anchors(file):
    found = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", re.sub(r"^```.*?^```", "", file.read_text(), flags=re.S | re.M), re.M):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def main():
    docs = [file for file in (ROOT / "docs").rglob("*.md") if "book" not in file.relative_to(ROOT / "docs").parts[:1]]
    papers = sorted([*ROOT.glob("*.md"), *docs])
    listed = set()
    problems, count = [], 0
    for file in papers:
        for link in LINK.findall(without_code(file.read_text())):
            if re.match(r"[a-z][a-z+.-]*:", link):
                continue
            count += 1
            path, _, fragment = unquote(link).partition("#")
            target = (file.parent / path).resolve() if path else file
            if file.name == "SUMMARY.md":
                listed.add(target)
            if not target.exists():
                problems.append(f"{file.relative_to(ROOT)}: {link} leads nowhere")
            elif fragment and target.suffix == ".md" and fragment not in anchors(target):
                problems.append(f"{file.relative_to(ROOT)}: {target.relative_to(ROOT)} has no heading #{fragment}")
    for file in docs:
        if file.name != "SUMMARY.md" and file.resolve() not in listed:
            problems.append(f"{file.relative_to(ROOT)} is not in docs/SUMMARY.md")
    print("\n".join(problems), end="\n" if problems else "")
    print(f"{count} links in {len(papers)} files, {len(problems)} problems")
    return 1 if problems or not count else 0


sys.exit(main())
