"""Things to say: sentences from templates and word lists of our own, numbers, invented words."""

# Letters of other languages and of phonetic script are meant.
# ruff: noqa: RUF001
from __future__ import annotations

import numpy as np

_ENGLISH = {
    "who": "I|you|we|they|my mother|the baker|our pilot|a young woman|the old man|my best friend|"
    "everybody|nobody|the mayor|a famous painter|Peter|Maria|Bob|Emma|Philip|Beth",
    "did": "bought|moved|opened|broke|found|painted|remembered|described|watched|mixed|shipped|"
    "fixed|carried|borrowed|promised|measured|photographed|wrapped|chose|polished",
    "what": "a blue umbrella|the broken bicycle|forty apples|some fresh bread|a map of the moon|"
    "five wooden boxes|the shape of the valley|my favourite poem|an empty theatre|a pair of gloves|"
    "the bright yellow lamp|eight thin books|a warm jacket|the bottom of the page|much more soup",
    "where": "near the harbour|above the shop|in the middle of the room|beside the river|at home|"
    "behind the museum|on the roof|under the big bridge|by the village pump|at the bus stop",
    "when": "yesterday|before breakfast|last Thursday|at half past five|during the storm|"
    "in September|for the first time|every morning|a few moments ago|once more",
    "how": "slowly|with both hands|very carefully|by mistake|without a sound|happily|for fun|"
    "as usual|in a hurry|probably",
    "open": "Well|You know|Honestly|Of course|Imagine this|Perhaps|By the way|Good morning|"
    "Thank you|Please wait|Hmm|Oh|Beautiful|Welcome back|Let me explain",
}
_PATTERNS = (
    "{who} {did} {what} {where}.",
    "{when}, {who} {did} {what}.",
    "{open}, {who} {did} {what} {how}.",
    "Why did {who} go {where} {when}?",
    "{who} {did} {what}, and {who} {did} {what} {how}!",
    "{open}. It was {where}, {when}.",
    "There were {n} of them {where}, maybe {n}.",
    "Call me on {n}, {n}, {n}.",
    "{open}, do you want {what} or {what}?",
    "{made} {made}, {made} {made}.",
    "No. {what}, not {what}!",
)
LANGUAGES = {
    "en": "",
    "de": "der Baum|eine Brücke|wir|möchte|morgen früh|über|vielleicht|schön|fünf Äpfel|Wasser|"
    "mein Bruder|spielt|Pferde|und|aber|zwischen|Bahnhof|bitte|langsam|eine Tasse Kaffee|warum",
    "fr": "la maison|un bateau|nous|voudrais|demain matin|peut-être|sous|beaucoup|deux pommes|"
    "mon père|jouer|une feuille|et|mais|bonjour|la montagne|bleu|encore|très bien|pourquoi pas",
    "es": "la casa|un barco|nosotros|quiero|mañana|quizás|debajo|mucho|cinco manzanas|mi padre|"
    "jugar|una bombilla|y|pero|buenos días|la montaña|pequeño|otra vez|muy bien|por favor",
    "it": "la casa|una barca|noi|vorrei|domani mattina|forse|sotto|molto|cinque mele|mio padre|"
    "giocare|una bambina|e|ma|buongiorno|la montagna|piccolo|ancora|va bene|per favore",
    "pt": "a casa|um barco|nós|queria|amanhã|talvez|embaixo|muito|cinco maçãs|meu pai|brincar|"
    "uma bolsa|e|mas|bom dia|a montanha|pequeno|outra vez|tudo bem|por favor",
    "nl": "het huis|een boot|wij|wil graag|morgenvroeg|misschien|onder|veel|vijf appels|mijn broer|"
    "spelen|een boom|en|maar|goedemorgen|de fiets|klein|nog een keer|prima|alsjeblieft",
    "pl": "dom|mała łódka|my|chciałbym|jutro rano|może|pod mostem|bardzo|pięć jabłek|mój brat|"
    "bawić się|piękna mapa|i|ale|dzień dobry|góra|mały|jeszcze raz|dobrze|proszę bardzo",
    "sv": "huset|en båt|vi|skulle vilja|i morgon|kanske|under bron|mycket|fem äpplen|min bror|"
    "spela|en blomma|och|men|god morgon|berget|liten|en gång till|bra|varsågod",
    "tr": "ev|bir gemi|biz|istiyorum|yarın sabah|belki|köprünün altında|çok|beş elma|babam|"
    "oynamak|mavi bir kapı|ve|ama|günaydın|büyük dağ|küçük|bir daha|peki|lütfen",
    "cmn": "ma1 ma5|ba4 ba5|wo3 men5|xiang3|ming2 tian1|ke3 neng2|hen3 hao3|ping2 guo3|peng2 you5|"
    "bei1 zi5|fei1 ji1|ma3 lu4|pao3 bu4|mai3|bai2 se4|nv3 hai2|zao3 shang5|zai4 jian4|bu2 yong4",
    "ca": "la casa|un vaixell|nosaltres|voldria|demà al matí|potser|a sota|molt|cinc pomes|"
    "el meu pare|jugar|una bombeta|i|però|bon dia|la muntanya|petit|una altra vegada|molt bé",
}
"""Words of each language; English has patterns of its own."""
_ONSETS = tuple("b p m f v d t n l k g s z r w h j br pl fl st sh ch tr kl".split(" "))  # noqa: SIM905
_VOWELS = ["a", "e", "i", "o", "u", "ee", "oo", "ai", "ow", "ay"]
_CODAS = ["", "", "", "m", "n", "p", "l", "s", "f", "t", "b"]


def sentence(language: str, random: np.random.Generator) -> str:
    """One sentence of about two to six seconds.

    Args:
        language: a key of `LANGUAGES`.
    """
    if language == "en":
        return _english(random)
    words = LANGUAGES[language].split("|")
    count = int(random.integers(4, 9))
    picked = [words[i] for i in random.integers(0, len(words), count)]
    if random.random() < 0.25 and language != "cmn":
        picked.insert(int(random.integers(0, count)), _number(random))
    pause = int(random.integers(2, max(3, count - 1)))
    text = " ".join(picked[:pause]) + ", " + " ".join(picked[pause:])
    return text + str(random.choice([".", "!", "?"]))


def _english(random: np.random.Generator) -> str:
    pattern = _PATTERNS[int(random.integers(len(_PATTERNS)))]
    while "{" in pattern:
        start, rest = pattern.split("{", 1)
        name, rest = rest.split("}", 1)
        match name:
            case "n":
                word = _number(random)
            case "made":
                word = _invented(random)
            case _:
                words = _ENGLISH[name].split("|")
                word = words[int(random.integers(len(words)))]
        pattern = start + word + rest
    return pattern[0].upper() + pattern[1:]


def _number(random: np.random.Generator) -> str:
    return str(int(10 ** random.uniform(0, 4)))


def _invented(random: np.random.Generator) -> str:
    syllables = [
        str(random.choice(_ONSETS)) + str(random.choice(_VOWELS)) + str(random.choice(_CODAS))
        for _ in range(int(random.integers(1, 4)))
    ]
    return "".join(syllables)
