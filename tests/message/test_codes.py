# ruff: noqa: RUF001
"""Codes: which numbers are some, and which is the likeliest, in texts as senders write them."""

from __future__ import annotations

import base64
from typing import NamedTuple

import pytest
from cases import case

from mailhandlers import StoredMessage


def plain(text: str, subject: str = "") -> list[str]:
    head = f"Subject: {subject}\nContent-Type: text/plain; charset=utf-8\n\n"
    return StoredMessage.parse((head + text).encode()).codes


def page(source: str, subject: str = "") -> list[str]:
    head = f"Subject: {subject}\nContent-Type: text/html; charset=utf-8\n\n"
    return StoredMessage.parse((head + source).encode()).codes


class Sample(NamedTuple):
    """A text as a sender writes it; what begins with ``<`` is HTML."""

    language: str
    code: str
    text: str
    subject: str = ""


SAMPLES = [
    # English
    Sample(
        "en", "482913", "Hi Bob,\n\nYour verification code is 482913.\n\n(c) 2026 Acme Inc."
    ),
    Sample(
        "en",
        "482913",
        "<h1>Order 123456 from 2026</h1><p>Here is your sign-in code:</p>"
        "<p style='font-size:32px;letter-spacing:6px'>482913</p><p>PO Box 94043, CA 90210</p>",
    ),
    Sample("en", "193847", "193847 is your Acme verification code. It expires in 10 minutes."),
    Sample(
        "en",
        "7341",
        "Enter this code to confirm your email address:\n\n7341\n\nTicket 100200, 12345 Main",
    ),
    Sample("en", "930184", "G-930184 is your Google verification code."),
    Sample(
        "en",
        "vM8xw2",
        "<p>Your one-time code: <b>vM8xw2</b></p><p>Sent 2026 to account 44871234</p>",
    ),
    Sample("en", "ABCD-1234", "Your device code is ABCD-1234\nCall 555 0199 for help."),
    Sample("en", "WDJB-MJHT", "To sign in, enter the code\n\n    WDJB-MJHT\n\non the device."),
    Sample("en", "60718293", "Your backup code 6071 8293 was made on 11/30/2026."),
    Sample("en", "281736", "Use 281736 as your password reset code for order no. 99887766."),
    Sample("en", "550129", "Invoice 20261130\nTotal 1299 EUR\n\nPIN: 550129\n"),
    Sample("en", "482913", "Thanks for signing up in 2026!", "482913 is your code"),
    Sample(
        "en",
        "390217",
        "<table><tr><td>3</td><td>9</td><td>0</td><td>2</td><td>1</td>"
        "<td>7</td></tr></table><p>is the code for the app, 2026 edition, zip code 94043</p>",
    ),
    # German
    Sample(
        "de",
        "284756",
        "Hallo Eva,\n\nIhr Bestätigungscode lautet: 284756\n\nBestellung 4711\n10115 Berlin",
    ),
    Sample("de", "284756", "284756 ist Ihr Sicherheitscode. Kundennummer 100200."),
    Sample("de", "9182", "Ihre PIN: 9182. Bitte bis 31.12.2026 ändern. Tel. 030 1234567"),
    Sample(
        "de",
        "662481",
        "<p>Rechnung Nr. 20260017</p><p>Ihr Einmalpasswort</p><div><b>662 481</b></div>"
        "<p>Acme GmbH, 80331 München, HRB 123456</p>",
    ),
    Sample("de", "771203", "Zur Anmeldung geben Sie bitte 771203 ein. Seit 1987 für Sie da."),
    # French
    Sample(
        "fr", "503918", "Bonjour,\n\nVotre code de vérification est le 503918.\n75001 Paris"
    ),
    Sample("fr", "503918", "Voici votre code : 503\u202f918\nCommande 88123456 du 30/11/2026"),
    Sample(
        "fr",
        "4821",
        "<p>Facture 202611</p><p>Saisissez le code suivant&nbsp;:</p><strong>4821</strong>"
        "<p>Service client : 01 23 45 67 89</p>",
    ),
    Sample("fr", "719304", "719304 est votre code de connexion. Code postal 69002."),
    # Spanish
    Sample("es", "640218", "Tu código de verificación es 640218. Pedido 123456."),
    Sample("es", "640218", "Hola,\n\nUsa este código:\n\n640-218\n\n28001 Madrid, 2026"),
    Sample("es", "3917", "Su clave es 3917 y vence en 5 minutos. Factura 20261130"),
    # Portuguese
    Sample("pt", "815207", "Seu código de acesso é 815207. Pedido nº 445566."),
    Sample("pt", "815207", "<p>Olá!</p><p>Código:</p><h2>815207</h2><p>CEP 01310-100</p>"),
    # Italian
    Sample("it", "204867", "Il tuo codice di verifica è 204867.\nOrdine 112233, 00184 Roma"),
    Sample("it", "204867", "<p>Ordine 778899</p><p>Codice: <b>204867</b></p><p>© 2026</p>"),
    # Dutch
    Sample("nl", "937105", "Je verificatiecode is 937105. Bestelling 20261234."),
    Sample("nl", "937105", "Gebruik deze code om in te loggen:\n\n937105\n\n1012 AB Amsterdam"),
    # Swedish, Danish, Norwegian
    Sample("sv", "418652", "Din engångskod är 418652. Kundnummer 123456."),
    Sample("da", "418652", "Din bekræftelseskode er 418652\nOrdre 998877\n1050 København"),
    Sample("no", "5512", "Koden din er 5512. Gyldig til 30.11.2026 kl. 12:30"),
    # Polish
    Sample("pl", "360947", "Twój kod weryfikacyjny to 360947. Zamówienie 123456."),
    Sample("pl", "360947", "<p>Faktura 2026/11/30</p><p>Kod:</p><p>360947</p><p>00-950 W</p>"),
    # Czech
    Sample("cs", "129875", "Váš ověřovací kód je 129875. Objednávka č. 2026001."),
    # Turkish
    Sample("tr", "764310", "Doğrulama kodunuz: 764310. Sipariş 112233."),
    Sample("tr", "764310", "764310 tek kullanımlık şifreniz. 2026 İstanbul 34000"),
    # Russian, Ukrainian
    Sample("ru", "895234", "Ваш код подтверждения: 895234. Заказ 123456 от 2026 года."),
    Sample("ru", "895234", "<p>Заказ № 445566</p><p>Никому не говорите код</p><b>895234</b>"),
    Sample("ru", "2048", "Пароль для входа 2048. Тел. 8 800 555 35 35"),
    Sample("uk", "895234", "Ваш код: 895-234\n01001 Київ"),
    # Greek, Arabic, Hebrew, Hindi, Thai, Vietnamese, Indonesian
    Sample("el", "573901", "Ο κωδικός επαλήθευσης είναι 573901. Παραγγελία 2026123."),
    Sample("ar", "573901", "رمز التحقق الخاص بك هو 573901 ولا تشاركه مع أحد. 2026"),
    Sample("he", "573901", "קוד האימות שלך הוא 573901. הזמנה 4711"),
    Sample("hi", "573901", "आपका ओटीपी 573901 है। ऑर्डर 4711"),
    Sample("th", "573901", "รหัสยืนยันของคุณคือ 573901 ปี 2026"),
    Sample("vi", "573901", "Mã xác minh của bạn là 573901. Đơn hàng 4711."),
    Sample("id", "573901", "Kode verifikasi Anda 573901. Pesanan 20261130."),
    # Chinese, Japanese, Korean
    Sample("zh", "308174", "您的验证码是308174，5分钟内有效。订单20261130"),
    Sample("zh", "308174", "【Acme】驗證碼：308174\n訂單 123456"),
    Sample(
        "zh", "3081", "<p>订单号 445566</p><p>验证码</p><p><b>3081</b></p><p>邮编 100000</p>"
    ),
    Sample("ja", "642095", "認証コード：642095\n注文番号 112233\n〒100-0001"),
    Sample(
        "ja", "642095", "<p>ご注文 20261130</p><p>確認番号は</p><div>642095</div><p>です</p>"
    ),
    Sample("ko", "718263", "인증번호는 718263 입니다. 주문 123456"),
    Sample("ko", "718263", "[Acme] 718263 인증 코드를 입력하세요. 2026"),
    # Written after the rules were, to see whether they hold
    Sample(
        "en",
        "739201",
        "Hello Jane,\n\nWe noticed a new sign-in from Berlin on Nov 30, 2026 at "
        "12:31 PM. If this was you, enter the following code:\n\n  739201\n\nIf "
        "not, call +1 (800) 555-0199 or write to security@acme.example.\n\nAcme, "
        "Inc. 1600 Amphitheatre Pkwy, Mountain View, CA 94043",
    ),
    Sample("en", "4827", "Your ride code: 4827\nDriver: Tom, plate B-XY 1234\nTrip 99817263"),
    Sample(
        "en",
        "B7K-9QX",
        "Here's your confirmation code: B7K-9QX. Flight LH2034 on 30.11.2026, "
        "seat 12A. Booking reference 7781234.",
    ),
    Sample(
        "en",
        "550021",
        "<html><body><table width=600><tr><td>Invoice "
        "20261130</td><td>#1002934</td></tr></table><div>Use this one-time "
        'passcode to log in</div><div style="font-size: 36px; '
        'font-weight:bold">550021</div><div>&copy; 2026 Bank AG, 60311 '
        "Frankfurt</div></body></html>",
    ),
    Sample(
        "fr",
        "883412",
        "<p>Bonjour Ève,</p><p>Code&nbsp;:&nbsp;<span "
        "style='letter-spacing:.4em'>8 8 3 4 1 2</span></p><p>Appelez le 0800 "
        "12 34 56</p>",
    ),
    Sample(
        "zh",
        "194857",
        "您正在登录，验证码194857，请于5分钟内填写。如非本人操作，请致电400-123-4567。",
    ),
    Sample("it", "7716", "La tua password temporanea: 7716 (valida fino al 30/11/2026)"),
    Sample("fi", "662910", "Hei! Vahvistuskoodisi on 662910. Tilausnumero 123987."),
    Sample("hu", "662910", "Kedves Eva! Az Ön megerősítő kódja: 662910. Rendelés: 2026112"),
    Sample("ro", "418820", "Codul tău de verificare este 418820. Comanda 123456"),
    Sample(
        "pt",
        "302918",
        "<p>Olá Bob, use o código abaixo para confirmar seu "
        "e-mail</p><table><tr><td "
        "style='font-size:28px'>302918</td></tr></table><p>Pedido 20264711</p>",
    ),
    Sample(
        "en",
        "582043",
        "Hi, 582043 is your one-time code to sign in. Don't share it. Ref 12345678",
    ),
    Sample(
        "en",
        "K4F9X",
        "Here is the Steam Guard code you need to login to account bob1234:\n\n"
        "K4F9X\n\nThis email was generated because of a login attempt from "
        "203.0.113.7.",
    ),
    Sample(
        "ja",
        "904418",
        "ご利用ありがとうございます。\n\n認証番号\n904418\n\n有効期限：2026年11月30日 12:30\n"
        "お問い合わせ：03-1234-5678",
    ),
    Sample("ko", "318820", "고객님의 인증번호 [318820]를 입력해주세요. 문의 1588-1234"),
    Sample("tr", "271828", "Güvenlik kodunuz 271828'dir. Müşteri no 10020030"),
    Sample("en", "83920147", "Your recovery key: 8392-0147. Keep this code safe. Case 1002345"),
    Sample(
        "en",
        "614350",
        "<div>Dear customer 10029384,</div><div>Your transfer of 1,500.00 EUR "
        "to DE89 3704 0044 0532 0130 00 needs a TAN.</div><div>TAN: "
        "<b>614350</b></div>",
    ),
    Sample(
        "en",
        "770011",
        "<h2>Welcome to Acme 2026</h2><a "
        "href='https://acme.example/v/123456'>Verify 99999</a><p>or type in "
        "<code>770011</code></p>",
    ),
    Sample("es", "4951", "Tu código es 4951. Calle Mayor 1234, 28013 Madrid"),
    Sample("de", "095312", "Ihr Code: 095312"),
    Sample(
        "ru",
        "120394",
        "Вы входите в аккаунт. Код для входа: 120-394. Если это не вы, звоните "
        "8 (800) 200-12-34",
    ),
    Sample(
        "en",
        "665544",
        "-----\n665544\n-----\n\nenter it at https://a.example/code/123456 within "
        "15 minutes. Order 112233",
    ),
    Sample("en", "559911", "Use verification code 559911 for Acme authentication."),
    Sample("en", "203040", "123456 people use Acme. Your security code is 203040."),
    Sample(
        "en",
        "481516",
        "Thank you for order 815493.\nYour pickup code\n481516\nShow it at counter 2342.",
    ),
]


def test_the_likeliest_is_first_in_texts_as_senders_write_them() -> None:
    wrong = {}
    for sample in SAMPLES:
        read = page if sample.text.startswith("<") else plain
        codes = read(sample.text, sample.subject)
        if codes[:1] != [sample.code]:
            wrong[sample] = codes
    assert (len(SAMPLES), len({sample.language for sample in SAMPLES})) == (83, 28)
    assert not wrong, "\n".join(f"{sample}: {codes}" for sample, codes in wrong.items())


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Your code is 482913.", ["482913"]),
        ("482913 or 1234, again 482913; not 123 nor 123456789", ["482913", "1234"]),
        ("G-482913, 验证码482913", ["482913"]),
        ("https://a.test/1234567 then 7654321", ["7654321"]),
        ("order a1234 or 1234b", []),
        ("Your code: 123 456", ["123456"]),
        ("123-456 and then 123\u00a0457, but 2026", ["123456", "123457", "2026"]),
        ("G-123-456? call (030) 123 456, 030 123 456, 123 456 789, 12-345-678", []),
        ("123.456 or 1,123 456 or 123 456,50 or 123\n456", []),
        ("٤٨٢٩١٣", []),
        # A blank or a dash of any kind between two groups, and one digit apart from the next.
        *((f"Your code: 482{gap}913", ["482913"]) for gap in "\u00a0\u202f\u2009\u2007 "),
        *((f"Your code: 482{gap}913", ["482913"]) for gap in "-\u2010\u2011\u2012\u2013\u2014"),
        ("Your code: 482 \u2013 913", ["482913"]),
        ("Your code: 4 8 2 9 1 3", ["482913"]),
        ("Your code:\n4\n8\n2\n9\n", ["4829"]),
        ("Your code: 4\u200b8\u00ad2913", ["482913"]),
        ("1 2 3 4 are numbers", []),
        # Addresses, links and phone numbers.
        ("bob+1234@a.test, 12345678@a.test, eva@4711.a.test", []),
        ("mailto:482913@a.test tel:482913 www.a.test/482913 //a.test/482913", []),
        ("Tel. 482913, phone: 482-913, call us at 482913, Fax 4829130", []),
        ("+49 30 482913, +1 (555) 482-9130, (030) 482913, 030 48 29 13, 0800 482 9130", []),
        ("<https://a.test/a 482913>", []),
        # Dates, times and amounts.
        ("2026-11-30, 30.11.2026, 30/11/2026, 12:3045, 4829.13, 1,4829 and 127.0.0.1", []),
        ("In 2026, order 4711 costs 5000 EUR: 1234", ["1234", "2026", "4711", "5000"]),
        # With letters only where a word for it is near.
        ("Your code is vM8xw2", ["vM8xw2"]),
        ("Your code: ABCD-1234", ["ABCD-1234"]),
        ("vM8xw2, iPhone15, Room12", []),
        ("The code is valid for 10min, for room12 and SIGN-IN", []),
    ],
)
def test_codes_in_plain_text(text: str, codes: list[str]) -> None:
    assert plain(text) == codes


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("<p>Your code</p><p>482913</p>", ["482913"]),
        ("<td>12</td><td>34</td>", []),
        ("<b>4</b><b>8</b><span>2</span><span>9</span>", ["4829"]),
        ("<p>Code</p><tr>\n <td>4</td>\n <td> 8</td>\n <td>2</td> <td>9</td></tr>", ["4829"]),
        ("<style>p { color: #123456 }</style><title>2026</title>x", []),
        ('<p style="width: 1000px">&#52;&#56;29</p>', ["4829"]),
        ('<a href="tel:482913">482913</a> <a href="mailto:1234@a.test">1234</a>', []),
        ('<a href="https://a.test/482913">4711</a>', ["4711"]),
        # Bold, large, or alone in its element, the least likely being first.
        ("<p>Of 1111 things 2222 are <b>3333</b></p>", ["3333", "1111", "2222"]),
        ("<p>Of 1111 <i style='font-size: 24px'>2222</i></p>", ["2222", "1111"]),
        ("<p>Of 1111 <i style='font-size: 12px'>a 2222</i></p>", ["1111", "2222"]),
        ("<p>In 1111 <b>is not</b> closed <b>as 2222", ["2222", "1111"]),
        ("<pre>1111 lines\n2222\n</pre>", ["2222", "1111"]),
    ],
)
def test_codes_in_a_page(source: str, codes: list[str]) -> None:
    assert page(source) == codes


def test_codes_in_the_subject() -> None:
    assert plain("Hello", "482913 is your code") == ["482913"]
    assert plain("Hello", "Your code: 1234") == ["1234"]
    assert plain("Hello", "Order 4711, 2026") == []  # where nothing marks them
    assert plain("4711", "Your code: 1234") == ["1234", "4711"]


def test_codes_of_the_cases() -> None:
    assert case("codes-in-addresses").codes == ["482913"]
    codes = case("codes-text-hides-html").codes
    assert codes[0] == "482913"
    assert case("codes-text-hides-html").summary()["codes"] == codes


def test_a_code_in_one_form_does_not_hide_what_is_likelier_in_the_other() -> None:
    html = base64.b64encode(b"<h1>482913</h1> is your code").decode()
    source = (
        "Content-Type: multipart/alternative; boundary=b\n\n--b\n\nPlot 1111\n--b\n"
        "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + html + "\n--b--\n"
    )
    assert StoredMessage.parse(source.encode()).codes == ["482913", "1111"]
