"""Words and phrases that generated traces are made of: about 1,000 stems, inflected to some 3,000 forms."""

# Signs that look like letters are what real traces contain.
# ruff: noqa: RUF001


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(text.split()))


NOUNS = _split("""
number value sum product difference quotient factor term equation expression result step case way answer problem
target digit fraction ratio integer square root power line point side angle area length triangle circle set pair row
column total remainder multiple divisor prime condition constraint variable coefficient constant function graph curve
slope interval bound limit sequence series pattern formula identity theorem lemma proof claim statement hypothesis
conclusion contradiction assumption definition property relation operation operator bracket parenthesis sign order
method approach strategy idea trick hint path branch tree node leaf edge vertex cycle loop search state list array
table entry index range count unit scale rate speed distance time hour minute second day week month year price cost
profit share percentage increase decrease change error mistake check test example question detail part piece half
third quarter whole group subset element member object item box ball card coin die player game move round probability
chance event outcome trial sample mean median mode variance deviation distribution expectation permutation combination
arrangement choice selection partition colour label position place slot seat person student teacher team class school
book page paper pencil letter word sentence phrase symbol notation letter string character length width height depth
volume surface plane axis coordinate origin distance radius diameter chord arc tangent sector polygon square rectangle
parallelogram rhombus trapezoid hexagon octagon pyramid prism cylinder cone sphere cube face corner diagonal midpoint
centroid bisector median altitude base matrix vector determinant eigenvalue rank kernel image basis dimension space
field ring ideal module group subgroup coset generator homomorphism isomorphism automorphism polynomial degree root
discriminant resultant derivative integral antiderivative gradient maximum minimum extremum inequality estimate
approximation expansion remainder convergence divergence neighbourhood boundary interior closure component region
domain codomain preimage bijection injection surjection inverse composition symmetry rotation reflection translation
dilation congruence modulus residue exponent base logarithm sine cosine tangent argument conjugate norm metric
topology measure density weight mass force energy pressure temperature current voltage resistance circuit battery
engine train car boat river bridge road city country map wall door window garden field tree flower farmer merchant
worker machine factory tank pipe pump water milk juice sugar flour bread apple orange banana lemon basket bottle glass
cup spoon plate kilogram litre metre mile gallon dollar euro coin note bank account loan interest salary tax discount
budget market shop customer ticket train algorithm program routine branch buffer pointer stack queue heap cache memory
register thread process signal message packet
""")

VERBS = _split("""
need use try check compute find solve factor expand simplify reduce add subtract multiply divide combine compare
consider assume suppose recall notice observe conclude derive deduce verify confirm rewrite replace substitute cancel
collect group rearrange isolate evaluate estimate approximate round count list enumerate order sort label mark skip
repeat continue start finish reach match equal exceed satisfy violate contradict imply follow hold fail work help look
seem appear remain produce yield return obtain gain lose keep drop remove include exclude contain cover fill empty
move turn rotate reflect translate shift scale stretch bound limit approach converge diverge alternate vanish differ
agree depend relate express represent denote define describe explain show prove test guess explore examine inspect
review correct change adjust tweak extend restrict separate split merge join connect separate intersect touch cross
divide bisect construct sketch plot measure weigh travel arrive depart walk drive pour mix share borrow repay earn
spend save buy sell receive deliver store load process handle apply handle map project embed normalise iterate
""")

ADJECTIVES = _split("""
first second third last next previous same different other possible impossible valid invalid correct wrong right
simple complex easy hard direct indirect positive negative zero even odd prime composite rational irrational real
imaginary finite infinite small large tiny huge big long short equal unequal distinct identical similar congruent
parallel perpendicular symmetric regular irregular convex concave linear quadratic cubic quartic exponential
logarithmic trigonometric algebraic geometric arithmetic harmonic continuous discrete monotone bounded unbounded local
global maximal minimal optimal unique common greatest least total partial complete empty full initial final general
special particular typical usual strange obvious clear unclear plausible promising useless useful necessary sufficient
independent dependent random uniform normal standard average remaining leftover original given known unknown missing
extra double triple single inner outer upper lower left right middle central adjacent opposite consecutive successive
alternating repeated nested closed open compact dense sparse orthogonal diagonal triangular singular invertible
nilpotent abelian cyclic free trivial proper improper strict weak strong sharp loose tight rough careful quick slow
""")

ADVERBS = _split("""
so then now again also just only still already maybe perhaps probably certainly clearly obviously indeed actually
really exactly nearly almost roughly directly quickly carefully simply merely first finally next therefore hence thus
however instead otherwise moreover similarly likewise conversely unfortunately fortunately apparently presumably
together separately consecutively respectively hopefully initially eventually meanwhile afterwards twice somehow
elsewhere anyway altogether precisely
""")


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def _inflect(verb: str, ending: str) -> str:
    stem = verb[:-1] if verb.endswith("e") else verb
    if ending == "ed" and verb.endswith("y") and verb[-2] not in "aeiou":
        stem = verb[:-1] + "i"
    return stem + ending


PLURALS = [_plural(noun) for noun in NOUNS]
VERBS_S = [_plural(verb) for verb in VERBS]
VERBS_ED = [_inflect(verb, "ed") for verb in VERBS]
VERBS_ING = [_inflect(verb, "ing") for verb in VERBS]

SYLLABLES = _split("""
ba be bo ca ce chi co da de di do el en er fa fi fo ga ge go ha he ho in is ja jo ka ke ki ko la le li lo lu ma me mi
mo na ne ni no or pa pe pi po qua ra re ri ro sa se shi si so ta te ti to tu un va ve vi wa we xi ya yo za ze zo ster
ton man berg ski mann well
""")
"""Parts of invented names and identifiers, the rare words that no list holds."""

PREFIXES = [
    "", "", "non", "re", "pre", "over", "under", "sub", "super", "semi", "multi", "co", "un", "pseudo", "quasi",
    "inter", "anti",
]  # fmt: skip
SUFFIXES = ["", "like", "wise", "less", "able", "ised", "isation", "ness", "ward", "based", "free", "ology"]

LATEX_COMMANDS = _split("""
alpha beta gamma delta epsilon theta lambda mu pi rho sigma tau phi omega sin cos tan log ln exp det gcd max min lim
sup inf
""")

OPENINGS = [
    "Okay, so", "Wait,", "Hmm,", "Alternatively,", "Let me see.", "But wait,", "So", "Now,", "First,", "Let's check:",
    "Hold on.", "Right,", "Actually,", "Let me double-check:", "That means", "Another way:", "Going back,",
    "In other words,", "Oh, I see:", "Not quite:", "Good,", "To be sure,", "On the other hand,", "Suppose that",
    "Let me think again.", "No, that is", "And",
]  # fmt: skip
"""How sentences of a trace begin."""

CHINESE = [
    "首先", "然后", "因此", "所以答案是", "我们需要验证", "让我再想想", "不对", "等等", "这个方法不行", "换一种思路",
    "左边等于右边", "结果是", "由题意可知", "根据定理", "设未知数为", "代入方程", "化简得到", "检查一下", "没有余数",
    "可以整除", "不能整除", "继续搜索", "回到上一步", "最后得到", "综上所述", "这一步是正确的", "数字都用完了",
]  # fmt: skip

SYMBOLS = [
    "→", "≤", "≥", "≠", "≈", "∈", "∞", "⇒", "×", "÷", "·", "±", "√", "π", "°", "✓", "✗", "…", "—", "“", "”", "²", "³",
    "½",
]  # fmt: skip
