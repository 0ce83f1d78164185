//! The body of a function: scopes, labels, instructions and their operands.

use std::collections::HashMap;

use super::LoadError;
use super::lexer::Token;
use super::parser::{self, Parser};
use super::syntax::{Body, Instruction, Operand, Register};

type Result<T> = std::result::Result<T, LoadError>;

/// The registers that can be named at a place: those of the scope and of the scopes around it.
#[derive(Debug)]
pub(crate) struct Scopes {
    count: u32,
    open: Vec<Scope>,
    parents: Vec<u32>,
}

#[derive(Debug, Default)]
struct Scope {
    number: u32,
    single: HashMap<String, Register>,
    /// `%r<10>`: the first of them, and how many there are.
    ranges: HashMap<String, (u32, u32)>,
    /// Variables by their names here; each has one that is its own in the function.
    variables: HashMap<String, String>,
}

impl Default for Scopes {
    fn default() -> Self {
        Self { count: 0, open: vec![Scope::default()], parents: vec![0] }
    }
}

impl Scopes {
    /// A new register of the innermost scope.
    pub(crate) fn declare(&mut self, name: &str) -> Register {
        let register = Register(self.count);
        self.count += 1;
        self.innermost().single.insert(name.to_owned(), register);
        register
    }

    fn declare_range(&mut self, prefix: &str, count: u32) {
        let first = self.count;
        self.count += count;
        self.innermost().ranges.insert(prefix.to_owned(), (first, count));
    }

    fn innermost(&mut self) -> &mut Scope {
        if self.open.is_empty() {
            self.open.push(Scope::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn enter(&mut self) {
        let parent = self.innermost().number;
        let number = self.parents.len() as u32;
        self.parents.push(parent);
        self.open.push(Scope { number, ..Scope::default() });
    }

    /// A name for a variable of the innermost scope: others may use the same one.
    fn declare_variable(&mut self, name: &str) -> String {
        let scope = self.innermost();
        let unique = if scope.number == 0 { name.to_owned() } else { format!("{name}@{}", scope.number) };
        scope.variables.insert(name.to_owned(), unique.clone());
        unique
    }

    fn symbol(&self, name: &str) -> String {
        let found = self.open.iter().rev().find_map(|scope| scope.variables.get(name));
        found.map_or(name, String::as_str).to_owned()
    }

    fn find(&self, name: &str) -> Option<Register> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(name.len() - digits);
        let number = number.parse::<u32>().ok();
        self.open.iter().rev().find_map(|scope| {
            scope.single.get(name).copied().or_else(|| {
                let &(first, count) = scope.ranges.get(prefix)?;
                number.filter(|&number| number < count).map(|number| Register(first + number))
            })
        })
    }
}

/// Reads a body from its `{` to its `}`.
pub(crate) fn read(parser: &mut Parser<'_>, mut scopes: Scopes) -> Result<Body> {
    parser.expect(b'{')?;
    let mut body = Body::default();
    let depth = scopes.open.len();
    loop {
        match parser.peek() {
            Some(Token::Mark(b'{')) => {
                parser.at += 1;
                scopes.enter();
            }
            Some(Token::Mark(b'}')) => {
                parser.at += 1;
                if scopes.open.len() == depth {
                    break;
                }
                scopes.open.pop();
            }
            Some(Token::Mark(b';')) => parser.at += 1,
            Some(Token::Word(word)) if word.starts_with('.') => {
                declaration(parser, &mut scopes, &mut body, word)?
            }
            Some(Token::Word(_) | Token::Mark(b'@')) => statement(parser, &mut scopes, &mut body)?,
            _ => return Err(parser.error("a statement is missing")),
        }
    }
    body.registers = scopes.count;
    body.parents = scopes.parents;
    Ok(body)
}

fn declaration(parser: &mut Parser<'_>, scopes: &mut Scopes, body: &mut Body, word: &str) -> Result<()> {
    match word {
        ".loc" | ".file" => parser.skip_line(),
        ".pragma" => parser.skip_past(b';'),
        ".reg" => {
            parser.at += 1;
            // Its type, perhaps after `.v2`: a register is as wide as any type.
            let mut name = parser.word()?;
            while name.starts_with('.') {
                name = parser.word()?;
            }
            loop {
                if parser.take_mark(b'<') {
                    let count = parser.integer()?;
                    parser.expect(b'>')?;
                    let count = u32::try_from(count).map_err(|_| parser.error("too many registers"))?;
                    scopes.declare_range(name, count);
                } else {
                    scopes.declare(name);
                }
                if !parser.take_mark(b',') {
                    break;
                }
                name = parser.word()?;
            }
            parser.expect(b';')?;
        }
        _ => {
            let external = word == ".extern";
            parser.at += usize::from(external);
            let space =
                parser::space(parser.word()?).ok_or_else(|| parser.error("this directive is not known"))?;
            for mut variable in parser.variables(space, external)? {
                variable.name = scopes.declare_variable(&variable.name);
                body.variables.push(variable);
            }
        }
    }
    Ok(())
}

fn statement(parser: &mut Parser<'_>, scopes: &mut Scopes, body: &mut Body) -> Result<()> {
    let first = parser.at;
    let scope = scopes.innermost().number;
    let guard = if parser.take_mark(b'@') {
        let negated = parser.take_mark(b'!');
        let name = parser.word()?;
        let register = scopes.find(name).ok_or_else(|| parser.error(&format!("no predicate `{name}`")))?;
        Some((register, negated))
    } else {
        None
    };
    let name = parser.word()?.to_owned();
    if guard.is_none() && parser.take_mark(b':') {
        match parser.peek() {
            Some(Token::Word(".branchtargets")) => {
                parser.at += 1;
                let mut list = vec![parser.word()?.to_owned()];
                while parser.take_mark(b',') {
                    list.push(parser.word()?.to_owned());
                }
                parser.expect(b';')?;
                body.targets.insert((scope, name), list);
            }
            Some(Token::Word(".callprototype" | ".calltargets")) => parser.skip_past(b';'),
            _ => {
                body.labels.insert((scope, name), body.instructions.len() as u32);
            }
        }
        return Ok(());
    }
    let mut operands = Vec::new();
    while !parser.take_mark(b';') {
        operands.push(operand(parser, scopes)?);
        if !parser.take_mark(b',') && parser.peek() != Some(Token::Mark(b';')) {
            return Err(parser.error("`,` or `;` is missing"));
        }
    }
    let span = parser.span_from(first);
    body.instructions.push(Instruction { guard, name, operands, span, scope });
    Ok(())
}

fn operand(parser: &mut Parser<'_>, scopes: &Scopes) -> Result<Operand> {
    let first = simple(parser, scopes)?;
    if parser.take_mark(b'|') {
        return Ok(Operand::Pair(Box::new(first), Box::new(simple(parser, scopes)?)));
    }
    Ok(first)
}

fn simple(parser: &mut Parser<'_>, scopes: &Scopes) -> Result<Operand> {
    match parser.next() {
        Some(Token::Mark(b'!')) => Ok(Operand::Not(Box::new(simple(parser, scopes)?))),
        Some(Token::Mark(b'-')) => Ok(match simple(parser, scopes)? {
            Operand::Integer(value) => Operand::Integer(value.wrapping_neg()),
            Operand::Single(value) => Operand::Single(-value),
            Operand::Double(value) => Operand::Double(-value),
            _ => return Err(parser.error("a number is missing after `-`")),
        }),
        Some(Token::Mark(b'{')) => Ok(Operand::Vector(several(parser, scopes, b'}')?)),
        Some(Token::Mark(b'(')) => Ok(Operand::List(several(parser, scopes, b')')?)),
        Some(Token::Mark(b'[')) => {
            let base = simple(parser, scopes)?;
            let (base, offset) = match base {
                Operand::Symbol(name, offset) => (Operand::Symbol(name, 0), offset),
                base => (base, parser.distance()?),
            };
            parser.expect(b']')?;
            Ok(Operand::Address(Box::new(base), offset))
        }
        Some(Token::Integer(value)) => Ok(Operand::Integer(value)),
        Some(Token::Single(bits)) => Ok(Operand::Single(f32::from_bits(bits))),
        Some(Token::Double(value)) => Ok(Operand::Double(value)),
        Some(Token::Word("_")) => Ok(Operand::Sink),
        Some(Token::Word("WARP_SZ")) => Ok(Operand::Integer(32)),
        Some(Token::Word(name)) => match scopes.find(name) {
            Some(register) => Ok(Operand::Register(register)),
            None if name.starts_with('%') => Ok(Operand::Special(name.to_owned())),
            None => Ok(Operand::Symbol(scopes.symbol(name), parser.distance()?)),
        },
        _ => {
            parser.at -= 1;
            Err(parser.error("an operand is missing"))
        }
    }
}

fn several(parser: &mut Parser<'_>, scopes: &Scopes, end: u8) -> Result<Vec<Operand>> {
    let mut all = Vec::new();
    while !parser.take_mark(end) {
        all.push(operand(parser, scopes)?);
        if !parser.take_mark(b',') && parser.peek() != Some(Token::Mark(end)) {
            return Err(parser.error("a list without end"));
        }
    }
    Ok(all)
}
