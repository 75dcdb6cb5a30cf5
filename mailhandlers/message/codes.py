"""The codes that a message brings, such as ``482913``, the likeliest first.

A person knows a code by its marks: it is alone in its line or its element, bold or large,
near a word for it, and mostly of six digits. Each mark is worth some points. No codes are the
digits of links, addresses and phone numbers, of dates and of amounts with a separator.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .text import seen, urls_in

_DASH = "\u2010-\u2015\u2212-"
# Digits with something between them, read as a whole: 482 913, 2026-11-30, +49 30 1234567.
_NUMBER = re.compile(rf"[0-9]+(?:(?: ?[{_DASH}] ?| {{1,2}}|[.,:/'])[0-9]+)*")
_PARTS = re.compile(r"[^ ]+")
_GROUPED = re.compile(rf"[0-9]+(?:[ {_DASH}]{{1,3}}[0-9]+)*")
_NO_DIGITS = re.compile(r"[^0-9]+")
_DIGIT = re.compile(r"[0-9]")
# One digit in each cell of a table, or with a blank behind each.
_DIGITS_APART = re.compile(
    r"[0-9](?<![\w.,:/-].)(?:\s{1,4}[0-9]){3,7}(?![\w.,:/-]|\s{1,4}[0-9](?!\w))", re.ASCII
)
_WITH_LETTERS = re.compile(
    r"(?<![\w@./-])(?:"
    r"(?=[A-Za-z]{0,9}[0-9])(?=[0-9]{0,9}[A-Za-z])[A-Za-z0-9]{4,10}"
    r"|(?=[0-9-]{0,9}[A-Z])[A-Z0-9]{3,5}(?:-[A-Z0-9]{3,5}){1,2}"
    r")(?![\w@/-]|\.\w)",
    re.ASCII,
)
# Whether there may be any: found a few times as fast.
_DIGIT_BY_LETTER = re.compile(r"[0-9](?:-?[A-Za-z]|(?<=[A-Za-z].)|(?<=[A-Za-z]-.))")
_CAPITALS = re.compile(r"-(?<=[A-Z0-9]{3}-)[A-Z0-9]{3}")
_NATURAL = re.compile(r"[0-9]+[a-z]+|[A-Za-z][a-z]+[0-9]+")  # 10min, room12
_OF_TIME = re.compile(r"[0-9]+(?:min|mins|minutes|hours|days|hrs|secs?)", re.IGNORECASE)
_IN_NAMES = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._%+'~-"
_LONGEST_NAME = 64
_HOST_OF_MAIL = re.compile(r"@[\w.-]+")
_HOST = re.compile(r"(?<![\w.])(?:mailto:|tel:|sms:|www\.)[^\s<>\"]+", re.IGNORECASE)
_HOSTS = ("mailto:", "tel:", "sms:", "www.")
_MONEY = re.compile(
    r"\s?(?:[$€£¥₹₽₩₺%]|(?:EUR|USD|CHF|GBP|Euros?|kr|zł|Kč|Ft|TL|руб|円|元|원)\b)"  # noqa: RUF001
)
_MONEY_BEFORE = re.compile(r"(?:[$€£¥₹₽₩₺]|\b(?:EUR|USD|CHF|GBP|Rs\.?))\s?\Z")
_AREA_CODE = re.compile(r"\(\+?[0-9]{1,5}\)\s?\Z|\+\s?\Z")
_SENTENCE = re.compile(r"[.!?]\s|[。！？]")  # noqa: RUF001
_YEAR = re.compile(r"(?:19|20)[0-9][0-9]")
_SIX = re.compile(rf"[0-9]{{3}}[ {_DASH}]{{1,3}}[0-9]{{3}}")
_LEAST_OF_PHONES = 9  # digits in three groups or more

# Words for a code, which may end others: Bestätigungscode, engångskod. They are patterns, each
# with one letter first, and "^" before that where a word must begin with it.
_CODE = (
    r"codes?\b|^cód[a-z]{0,5}\b|^codigo\b|^codice\b|^codul\b|^cod\b|^pin\b|^otp\b|^tan\b|passwor[dt]|"
    r"mot de passe|contraseña|^clave\b|^senha\b|kode?n?\b|kotet?\b|^kodu\w{0,9}|^kod\w{1,3}\b|"
    r"koodi|tunnusluku|hasło|kód\w{0,3}\b|jelszó|şifre|^sandi\b|^mã\b|код\w{0,3}\b|парол|κωδικ|رمز|"
    r"كود|کد\b|קוד|סיסמ|कोड|ओटीपी|验证码|驗證碼|校验码|校驗碼|动态码|動態碼|代码|代碼|密码|密碼|认证码|"
    r"認證碼|确认码|確認碼|コード|認証番号|確認番号|暗証番号|パスワード|코드|인증\s?번호|확인\s?번호|"
    r"비밀번호|รหัส"
)
# Words beside one.
_HINT = (
    r"verif|vérif|bestätig|confirm|authenti|sign[ -]?in|log[ -]?in|anmeld|one[ -]time|einmal|"
    r"expire|подтвержд|войти|вход|доступ"
)
# Words for other numbers.
_PHONE = (
    r"^tel\b|^tél\b|phone|fax|^call\b(?: us)?(?: at)?(?: on)?|hotline|telefon|^tel[eé]fono|"
    r"téléphone|whatsapp|^mobil\b|^тел\b|телефон|电话|電話|전화|☎|📞"
)
_OTHER = (
    r"post(?:al)? ?code|zip ?code|promo ?code|discount ?(?:code)?|account|gutschein|"
    r"code postal|codice fiscale|código postal|bar ?code|order|bestell|auftrag|rechnung|"
    r"invoice|facture|commande|pedido|factura|fatura|ordine|fattura|zamówieni|faktur|заказ|"
    r"сч[её]т|订单|訂單|注文|주문|sipariş|ticket|booking|reservation|buchung|reference|^ref\b|"
    r"customer|kund|client|konto|tracking|postal|^plz\b|since|seit|depuis|©|copyright|"
    r"^hrb\b|^vat\b|^ust\b|^id\b|room|article|artikel|item|^sku\b|version|^port\b|box|^nr\b|"
    r"^no\b\.?|№|#"
)


def _pattern_of(words: str) -> str:
    """Return the pattern of *words*, by their first letters.

    Python looks at an alternative at all only where its first letter stands.
    """
    by_letter: dict[str, list[str]] = {}
    for word in words.split("|"):
        letter, rest = word.lstrip("^")[0], word.lstrip("^")[1:]
        begins = f"(?<=\\b{letter})" if word[0] == "^" else ""
        by_letter.setdefault(letter, []).append(begins + rest)
    return "|".join(f"{letter}(?:{'|'.join(rest)})" for letter, rest in by_letter.items())


_KINDS = {
    kind: re.compile(_pattern_of(words))
    for kind, words in (("phone", _PHONE), ("other", _OTHER), ("code", _CODE), ("hint", _HINT))
}
_WORDS = re.compile(_pattern_of("|".join((_PHONE, _OTHER, _CODE, _HINT))))
_NEAR, _FAR, _DIRECT = 60, 160, 16
_BESIDE = 25
_WORDS_LOOKED_AT = 4
_LEAST_IN_SUBJECT = 3
_SIZES = {6: 3, 4: 1, 8: 1}
_PUNCTUATION = " \t*_=~#>|\u2022\xb7:.\u2013\u2014\"'\xab\xbb[]()`-"
_MARGIN = 40


class Marked(NamedTuple):
    """A text, as :func:`.text.seen` gives it, with what marks some of it for a person's eye."""

    text: str
    edges: Sequence[int] = ()
    """Where elements begin or end, in order."""
    strong: Sequence[tuple[int, int]] = ()
    """What is bold or large, from where to where, in order."""
    muted: Sequence[tuple[int, int]] = ()
    """What is no code in any case, such as the text of a link to a phone number, in order."""


class _Word(NamedTuple):
    start: int
    end: int
    kind: str


class _Candidate(NamedTuple):
    start: int
    end: int
    code: str
    needs_word: bool = False
    """Whether it is none without a word for it."""


def codes_in(subject: str, texts: Iterable[Marked]) -> list[str]:
    """Return the codes in a message, the likeliest first, each once."""
    best: dict[str, int] = {}
    subject = seen(subject)
    if _may_have_codes(subject):
        for code, points in _Text(Marked(subject)).codes():
            if points >= _LEAST_IN_SUBJECT:
                best[code] = max(best.get(code, points), points)
    for text in texts:
        if _may_have_codes(text.text):
            for code, points in _Text(text).codes():
                best[code] = max(best.get(code, points), points)
    return sorted(best, key=best.__getitem__, reverse=True)


def _may_have_codes(text: str) -> bool:
    return bool(_DIGIT.search(text) or _CAPITALS.search(text))


class _Text:
    """A text in which codes are looked for."""

    def __init__(self, marked: Marked) -> None:
        self._marked = marked
        self._strong = [start for start, _ in marked.strong]
        self._text = ""
        self._words: list[_Word] = []
        self._starts: list[int] = []
        self._ends: list[int] = []

    def codes(self) -> Iterator[tuple[str, int]]:
        """Yield the codes in order, and how many points each has."""
        text = _without(self._marked.text, self._marked.muted)
        if "://" in text:
            text = _without(text, [(url.start, url.end) for url in urls_in(text)])
        if "@" in text:
            text = _without(text, _addresses(text))
        # In lower case this letter alone gets longer.
        lower = text.replace("\u0130", "I").lower()
        if any(host in lower for host in _HOSTS):
            text = _without(text, [host.span() for host in _HOST.finditer(text)])
        self._text = text
        for match in _WORDS.finditer(lower):
            self._words.append(_Word(match.start(), match.end(), _kind_of(match[0])))
        self._starts = [word.start for word in self._words]
        self._ends = [word.end for word in self._words]
        found = [*self._of(self._marks())]
        self._text = _without(self._text, sorted((c.start, c.end) for c, _ in found))
        found += self._of(self._numbers())
        yield from ((each.code, points) for each, points in sorted(found))

    def _of(self, candidates: Iterable[_Candidate]) -> Iterator[tuple[_Candidate, int]]:
        for candidate in candidates:
            points = self._points(candidate)
            if points is not None:
                yield candidate, points

    # What may be a code

    def _marks(self) -> Iterator[_Candidate]:
        """Yield what is a code only near a word for it, and more than a number."""
        if not any(word.kind == "code" for word in self._words):
            return
        for apart in _DIGITS_APART.finditer(self._text):
            yield _Candidate(*apart.span(), _NO_DIGITS.sub("", apart[0]), needs_word=True)
        if not (_DIGIT_BY_LETTER.search(self._text) or _CAPITALS.search(self._text)):
            return
        for token in _WITH_LETTERS.finditer(self._text):
            if _OF_TIME.fullmatch(token[0]):
                continue
            if _NATURAL.fullmatch(token[0]) and not self._stands_out(*token.span()):
                continue
            yield _Candidate(*token.span(), token[0], needs_word=True)

    def _numbers(self) -> Iterator[_Candidate]:
        """Yield the numbers that are none of another kind."""
        for number in _NUMBER.finditer(self._text):
            start, end = number.span()
            before, after = self._text[max(start - 1, 0) : start], self._text[end : end + 1]
            if _is_letter(before) or _is_letter(after) or before == "/":
                continue
            if _AREA_CODE.search(self._text[max(start - _MARGIN, 0) : start]):
                continue
            if len(number[0]) <= 8 and number[0].isdigit():  # nearly all
                yield from _single(start, number[0])
            elif not _is_phone(number[0]):
                yield from self._grouped(start, number[0], before)

    def _grouped(self, start: int, number: str, before: str) -> Iterator[_Candidate]:
        """Yield the code that *number* is, or the codes in it."""
        end = start + len(number)
        sizes = tuple(map(len, _NO_DIGITS.split(number)))
        is_grouped = _GROUPED.fullmatch(number) is not None and before not in ("-", ".", ",")
        is_rare = sizes == (4, 4) or (sizes in ((2, 2), (2, 2, 2)) and "-" not in number)
        if is_grouped and (
            sizes == (3, 3) or (is_rare and (self._word_points(start, end) or 0) > 0)
        ):
            yield _Candidate(start, end, _NO_DIGITS.sub("", number))
            return
        for part in _PARTS.finditer(number):
            if part[0].isdigit():
                yield from _single(start + part.start(), part[0])
            elif _SIX.fullmatch(part[0]) and (part.start() or before not in ("-", ".", ",")):
                code = _NO_DIGITS.sub("", part[0])
                yield _Candidate(start + part.start(), start + part.end(), code)

    # What speaks for it

    def _points(self, candidate: _Candidate) -> int | None:
        """Return how likely it is that this is a code, None where it is none."""
        start, end, code, needs_word = candidate
        words = self._word_points(start, end)
        if words is None or (needs_word and words < 3):
            return None
        points = words + _SIZES.get(len(code), 0)
        if _YEAR.fullmatch(code):
            points -= 3
        money = self._text[max(start - 8, 0) : start]
        if _MONEY.match(self._text, end) or _MONEY_BEFORE.search(money):
            points -= 6
        is_alone, is_strong = self._is_alone(start, end), self._is_strong(start)
        return points + 3 * is_alone + is_strong + (is_alone and is_strong)

    def _word_points(self, start: int, end: int) -> int | None:
        """Return what the words around are worth, None where they speak of a phone."""
        before, hint = 0, 0
        first = bisect_right(self._ends, start)
        for word in reversed(self._words[max(first - _WORDS_LOOKED_AT, 0) : first]):
            gap = self._text[word.end : start]
            if len(gap) > _FAR:
                break
            is_direct = len(gap) <= _BESIDE and not _DIGIT.search(gap) and "\n" not in gap
            if word.kind == "code":
                before = 4 if len(gap) <= _NEAR and "\n" not in gap else 3
                before += 2 * (len(gap) <= _DIRECT)
                if _DIGIT.search(gap) or _SENTENCE.search(gap):
                    before = 1
                break
            if word.kind == "phone" and is_direct and len(gap) <= _DIRECT:
                return None
            if word.kind == "other" and is_direct:
                before = -6
                break
            hint = max(hint, word.kind == "hint")
        after = 0
        last = bisect_left(self._starts, end)
        for word in self._words[last : last + _WORDS_LOOKED_AT]:
            gap = self._text[end : word.start]
            if len(gap) > _NEAR or _DIGIT.search(gap):
                break
            if word.kind == "code":
                after = 3 if "\n" in gap else 4
                break
            hint = max(hint, 2 * (word.kind == "hint"))
        return (before + after if before < 0 else max(before, after)) + hint

    def _is_alone(self, start: int, end: int) -> bool:
        """Tell whether it has its line, or its element, for itself."""
        before = self._text[max(start - _MARGIN, 0) : start]
        after = self._text[end : end + _MARGIN]
        first, last = before.rpartition("\n")[2], after.partition("\n")[0]
        if max(len(first), len(last)) < _MARGIN and not (first + last).strip(_PUNCTUATION):
            return True
        edges = self._marked.edges
        left, right = bisect_right(edges, start) - 1, bisect_left(edges, end)
        if (
            left < 0
            or right == len(edges)
            or edges[right] - edges[left] > _MARGIN + end - start
        ):
            return False
        return self._text[edges[left] : edges[right]].strip() == self._text[start:end]

    def _stands_out(self, start: int, end: int) -> bool:
        return self._is_alone(start, end) or self._is_strong(start)

    def _is_strong(self, start: int) -> bool:
        at = bisect_right(self._strong, start) - 1
        return at >= 0 and start < self._marked.strong[at][1]


@functools.lru_cache(maxsize=256)
def _kind_of(word: str) -> str:
    return next(kind for kind, pattern in _KINDS.items() if pattern.fullmatch(word))


def _single(start: int, number: str) -> Iterator[_Candidate]:
    if 4 <= len(number) <= 8:
        yield _Candidate(start, start + len(number), number)


def _is_phone(number: str) -> bool:
    """Tell whether these groups of digits are those of a phone number."""
    groups = _NO_DIGITS.split(number)
    digits = sum(map(len, groups))
    if _SIX.fullmatch(number):
        return False
    is_long = len(groups) > 2 and digits >= _LEAST_OF_PHONES and max(map(len, groups)) < 6
    return is_long or (number[0] == "0" and digits > 6)


def _is_letter(character: str) -> bool:
    """Tell whether a number beside it is a part of a word; Chinese and Thai have no blanks."""
    return character == "_" or (character.isalpha() and character < "\u0250")


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield where addresses of mail stand."""
    for host in _HOST_OF_MAIL.finditer(text):
        name = text[max(host.start() - _LONGEST_NAME, 0) : host.start()]
        yield host.start() - len(name) + len(name.rstrip(_IN_NAMES)), host.end()


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return *text* with what is no code in each of the *spans*, which are in order."""
    pieces, end = [], 0
    for start, stop in spans:
        if start >= end:
            pieces += [text[end:start], "\0" * (stop - start)]
            end = stop
    return "".join([*pieces, text[end:]]) if pieces else text
