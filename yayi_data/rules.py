"""The table of rules: what validate looks for, how bad it is, and why it matters."""

from typing import NamedTuple

from yayi_data.types import Severity


class Rule(NamedTuple):
    """One rule; `bad` and `good` are lines of a file, `name` is its short title."""

    id: str
    name: str
    severity: Severity
    why: str
    bad: str
    good: str


_E, _W = Severity.ERROR, Severity.WARNING

_ALPACA = '{{"instruction": "{0}", "output": "{1}"}}'
_TURNS = '{{"system": "", "conversations": [{0}]}}'
_HUMAN = '{"from": "human", "value": "你好"}'
_YAYI = '{"from": "yayi", "value": "你好！"}'
_GOOD = _ALPACA.format("写一句问候", "你好！")
_TAGGED = _ALPACA.format("【媒宣领域任务】写一句问候", "你好！")
_GOOD_TURNS = _TURNS.format(f"{_HUMAN}, {_YAYI}")

_TABLE = (
    Rule("syntax", "Not valid JSON", _E,
         "A record that no parser reads is lost to training, and often takes the rest of the file with it.",
         '{"instruction": "写一句问候", "output": "他说"好""}',
         '{"instruction": "写一句问候", "output": "他说\\"好\\""}'),
    Rule("no-records", "A file without records", _E,
         "An empty file is nearly always a step before this one that failed.",
         "", _GOOD),
    Rule("dialect", "No known dialect, or another than the file's", _E,
         "Without a dialect nobody knows which member is the question and which the reply; a file has one.",
         '{"question": "你好", "answer": "你好！"}', _GOOD),
    Rule("too-large", "A record of over 64 MB", _E,
         "It is usually a whole file inside one string, or a quote or line break that was lost.",
         '{"instruction": "… 70 MB of text …", "output": "好"}', _GOOD),
    Rule("compression", "A damaged compressed file", _E,
         "What stands behind the damage was never read; a half download looks like a short corpus.",
         "data.jsonl.gz, cut in the middle", "the whole file"),
    Rule("encoding-utf8", "Bytes that are not UTF-8", _E,
         "Readers refuse the record or replace the text by question marks, silently.",
         '{"instruction": "\\xc4\\xe3\\xba\\xc3 (GBK bytes)", "output": "你好！"}',
         '{"instruction": "你好", "output": "你好！"}'),
    Rule("encoding-bom", "A byte order mark", _E,
         "Strict JSON parsers refuse a file that begins with U+FEFF.",
         "\\ufeff" + _GOOD, _GOOD),
    Rule("encoding-surrogate", "Half of a surrogate pair", _E,
         "It is no character: tokenizers crash on it or replace it, each in its own way.",
         _ALPACA.format("画一个笑脸", "\\ud83d"), _ALPACA.format("画一个笑脸", "\\ud83d\\ude00")),
    Rule("duplicate-key", "A key twice in one object", _E,
         "Parsers keep one of the two values without a word, and not all keep the same.",
         '{"instruction": "写一句问候", "output": "你好！", "output": "您好！"}', _GOOD),
    Rule("not-a-number", "NaN or Infinity", _E,
         "JSON has no such numbers: strict parsers refuse the record.",
         '{"instruction": "写一句问候", "output": "你好！", "score": NaN}', _GOOD),
    Rule("schema-missing", "A member is missing", _E,
         "A record without its question or its reply teaches nothing.",
         '{"instruction": "写一句问候"}', _GOOD),
    Rule("schema-type", "A value of the wrong type", _E,
         "Lists and numbers where text belongs crash loaders, or are trained on as their Python spelling.",
         '{"instruction": "写一句问候", "output": ["你好！"]}', _GOOD),
    Rule("schema-empty", "A text or list that must not be empty", _E,
         "An empty reply teaches the model to stop at once.",
         _ALPACA.format("写一句问候", ""), _GOOD),
    Rule("schema-value", "A value that is not allowed", _E,
         "A flag that nobody understands is ignored, and the turn is trained on after all.",
         _TURNS.format(_HUMAN + ', {"from": "yayi", "value": "你好！", "weight": 7}'),
         _TURNS.format(_HUMAN + ', {"from": "yayi", "value": "你好！", "weight": 0}')),
    Rule("unknown-member", "A member that nothing reads", _W,
         "A misspelt optional member (inputs, sytem) is ignored, and its text is missing from training.",
         '{"instruction": "翻译", "inputs": "你好", "output": "Hello"}',
         '{"instruction": "翻译", "input": "你好", "output": "Hello"}'),
    Rule("role-unknown", "An unknown role", _E,
         "A turn whose speaker nobody knows is dropped or mis-assigned, and every mask after it shifts.",
         _TURNS.format('{"from": "user", "value": "你好"}, ' + _YAYI), _GOOD_TURNS),
    Rule("role-order", "Turns that do not alternate", _E,
         "Two questions in a row pair every later question with the wrong reply.",
         _TURNS.format(f"{_HUMAN}, {_HUMAN}, {_YAYI}"), _GOOD_TURNS),
    Rule("role-end", "A conversation without a last reply", _E,
         "What follows the last question is what the model should learn, and it is not there.",
         _TURNS.format(f"{_HUMAN}, {_YAYI}, {_HUMAN}"), _GOOD_TURNS),
    Rule("role-system", "A system turn inside a conversation", _E,
         "The system text stands before the first turn; anywhere else it is read as something that was said.",
         _TURNS.format(_HUMAN + ', {"from": "system", "value": "简短回答"}, ' + _YAYI),
         '{"system": "简短回答", "conversations": [' + f"{_HUMAN}, {_YAYI}" + "]}"),
    Rule("blank-text", "A text of white space only", _W,
         "It looks filled to every check of length and says nothing.",
         _ALPACA.format("写一句问候", "  "), _GOOD),
    Rule("control-character", "A control character in a text", _W,
         "NUL, escape and their kind come from broken extraction; the model learns to write them.",
         _ALPACA.format("写一句问候", "你好\\u0000"), _GOOD),
    Rule("control-token", "A control token of the template in a text", _W,
         "Tools that find turns by searching for the token cut the record in the wrong place.",
         _ALPACA.format("写一句问候", "你好！<|End|>"), _GOOD),
    Rule("tag-malformed", "A broken domain tag", _W,
         "With half a bracket the record falls out of its domain, and the bracket is trained on as text.",
         _ALPACA.format("【媒宣领域任务写一句问候", "你好！"), _TAGGED),
    Rule("tag-unknown", "A domain tag that the registry lacks", _W,
         "A misspelt tag makes a domain of its own, and its records are missing from the one they belong to.",
         _ALPACA.format("【媒宣领域任务务】写一句问候", "你好！"), _TAGGED),
    Rule("tag-reply", "A domain tag in the reply", _W,
         "The tag belongs to the question; the model would learn to answer with it.",
         _ALPACA.format("写一句问候", "【媒宣领域任务】你好！"), _TAGGED),
    Rule("tag-several", "Several domain tags", _W,
         "Only the first counts; the others are trained on as text.",
         _ALPACA.format("【媒宣领域任务】【金融领域任务】写一句问候", "你好！"), _TAGGED),
    Rule("duplicate-record", "A record that came before", _W,
         "Repeated records are learnt by heart, and leak from training into the test split.",
         f"{_GOOD}\n{_GOOD}", _GOOD),
    Rule("conflicting-reply", "The same prompt with another reply", _W,
         "Two replies to one prompt pull in two directions; often one of them is the older, wrong one.",
         f"{_GOOD}\n" + _ALPACA.format("写一句问候", "不写。"), _GOOD),
    Rule("replacement-character", "A replacement character", _W,
         "U+FFFD marks text that was lost when it was decoded; the model learns to write it.",
         _ALPACA.format("写一句问候", "你\\ufffd！"), _GOOD),
    Rule("mojibake", "Text decoded with the wrong encoding", _W,
         "锟斤拷, â€™ and their kind are letters that were lost; the model learns to write them.",
         _ALPACA.format("写一句问候", "锟斤拷！"), _GOOD),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.id: rule for rule in _TABLE}
"""Every rule by its id, in the order in which they are shown."""

ERROR_RULES = frozenset(rule.id for rule in _TABLE if rule.severity is Severity.ERROR)
"""The rules whose breach leaves a record unusable; `pack` asks for these only."""
