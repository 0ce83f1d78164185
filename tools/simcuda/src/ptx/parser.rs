//! From tokens to a module: its variables and its functions. Bodies are read in `body.rs`.

use std::sync::Arc;

use super::LoadError;
use super::body::Scopes;
use super::lexer::{self, Spanned, Token};
use super::syntax::{Body, Formal, Function, Space, Syntax, Value, Variable};
use super::types::Type;

type Result<T> = std::result::Result<T, LoadError>;

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Syntax> {
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let mut syntax = Syntax { text: Arc::from(text), functions: Vec::new(), variables: Vec::new() };
    if !parser.take_word(".version") {
        return Err(parser.error("a module starts with `.version`"));
    }
    parser.skip_line();
    while parser.at < tokens.len() {
        parser.item(&mut syntax)?;
    }
    Ok(syntax)
}

/// The tokens of a module and how far they are read.
#[derive(Debug)]
pub(crate) struct Parser<'a> {
    tokens: &'a [Spanned<'a>],
    pub(crate) at: usize,
}

impl<'a> Parser<'a> {
    /// An error at the place that is read.
    pub(crate) fn error(&self, what: &str) -> LoadError {
        let place = self.tokens.get(self.at).or(self.tokens.last());
        let found = match self.tokens.get(self.at) {
            Some(spanned) => format!("{:?}", spanned.token),
            None => "the end".to_owned(),
        };
        lexer::error(place.map_or(0, |spanned| spanned.line), &format!("{what}; found {found}"))
    }

    pub(crate) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|spanned| spanned.token)
    }

    pub(crate) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// The bytes of the text from token `first` to the one before the next.
    pub(crate) fn span_from(&self, first: usize) -> std::ops::Range<usize> {
        self.tokens[first].start..self.tokens[self.at - 1].end
    }

    pub(crate) fn take_mark(&mut self, mark: u8) -> bool {
        let there = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(there);
        there
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(Token::Word(word));
        self.at += usize::from(there);
        there
    }

    pub(crate) fn expect(&mut self, mark: u8) -> Result<()> {
        if self.take_mark(mark) { Ok(()) } else { Err(self.error(&format!("`{}` is missing", mark as char))) }
    }

    pub(crate) fn word(&mut self) -> Result<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error("a name is missing")),
        }
    }

    pub(crate) fn integer(&mut self) -> Result<u64> {
        match self.peek() {
            Some(Token::Integer(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.error("an integer is missing")),
        }
    }

    /// Directives of debuggers end with their line.
    pub(crate) fn skip_line(&mut self) {
        let line = self.tokens[self.at.min(self.tokens.len() - 1)].line;
        while self.tokens.get(self.at).is_some_and(|spanned| spanned.line == line) {
            self.at += 1;
        }
    }

    pub(crate) fn skip_past(&mut self, mark: u8) {
        while self.peek().is_some() && !self.take_mark(mark) {
            self.at += 1;
        }
    }

    /// Skips `{ .. }` and what is nested in it.
    fn skip_block(&mut self) -> Result<()> {
        self.expect(b'{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some(Token::Mark(b'{')) => depth += 1,
                Some(Token::Mark(b'}')) => depth -= 1,
                Some(_) => {}
                None => return Err(self.error("`}` is missing")),
            }
        }
        Ok(())
    }

    fn item(&mut self, syntax: &mut Syntax) -> Result<()> {
        let mut external = false;
        loop {
            let Some(Token::Word(word)) = self.peek() else {
                return if self.take_mark(b';') { Ok(()) } else { Err(self.error("a directive is missing")) };
            };
            match word {
                ".extern" | ".visible" | ".weak" | ".common" => {
                    external |= word == ".extern";
                    self.at += 1;
                }
                ".target" | ".address_size" | ".file" | ".loc" => {
                    self.skip_line();
                    return Ok(());
                }
                ".pragma" => {
                    self.skip_past(b';');
                    return Ok(());
                }
                ".section" => {
                    self.at += 2;
                    return self.skip_block();
                }
                ".func" | ".entry" => {
                    let function = self.function()?;
                    // A definition takes the place of its declaration.
                    if let Some(known) = syntax.functions.iter_mut().find(|f| f.name == function.name) {
                        if known.body.is_none() {
                            *known = function;
                        }
                    } else {
                        syntax.functions.push(function);
                    }
                    return Ok(());
                }
                _ => match space(word) {
                    Some(space) => {
                        self.at += 1;
                        let variables = self.variables(space, external)?;
                        syntax.variables.extend(variables);
                        return Ok(());
                    }
                    None => return Err(self.error("this directive is not known")),
                },
            }
        }
    }

    /// After `.global` or another space: one declaration, to its `;`.
    pub(crate) fn variables(&mut self, space: Space, external: bool) -> Result<Vec<Variable>> {
        let mut declared = self.variable(space, external)?;
        let mut all = Vec::new();
        while self.take_mark(b',') {
            let (align, element) = (declared.align, declared.element);
            all.push(declared);
            declared = self.declarator(space, external, align, element)?;
        }
        all.push(declared);
        self.expect(b';')?;
        Ok(all)
    }

    /// `.align 4 .b8 name[8] = {1, 2}`, or the same as a parameter.
    fn variable(&mut self, space: Space, external: bool) -> Result<Variable> {
        let (mut align, mut lanes, mut element) = (None, 1, None);
        while let Some(Token::Word(word)) = self.peek() {
            match word {
                ".align" => {
                    self.at += 1;
                    align = Some(self.integer()? as usize);
                    continue;
                }
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                ".v8" => lanes = 8,
                // What a parameter points to: `.ptr .global .align 16`.
                ".ptr" => {
                    self.at += 1;
                    while let Some(Token::Word(".global" | ".shared" | ".const" | ".local" | ".align")) =
                        self.peek()
                    {
                        if self.next() == Some(Token::Word(".align")) {
                            self.integer()?;
                        }
                    }
                    continue;
                }
                ".attribute" => {
                    self.skip_past(b')');
                    continue;
                }
                _ => match word.strip_prefix('.').map(Type::parse) {
                    Some(Some(kind)) => element = Some(kind.bytes()),
                    Some(None) => return Err(self.error("this type of a variable is not known")),
                    None => break,
                },
            }
            self.at += 1;
        }
        let element = element.ok_or_else(|| self.error("a type is missing"))? * lanes;
        self.declarator(space, external, align.unwrap_or(element), element)
    }

    fn declarator(&mut self, space: Space, external: bool, align: usize, element: usize) -> Result<Variable> {
        let name = self.word()?.to_owned();
        let mut len = Some(element);
        let mut open = false;
        while self.take_mark(b'[') {
            if self.take_mark(b']') {
                open = true;
                continue;
            }
            len = Some(len.unwrap_or(1) * self.integer()? as usize);
            self.expect(b']')?;
        }
        let mut init = Vec::new();
        if self.take_mark(b'=') {
            self.values(&mut init)?;
        }
        if open {
            // `x[]` is as long as its initializer says; without one, only the launch knows.
            len = if init.is_empty() { None } else { Some(init.len() * element) };
        }
        Ok(Variable { name, space, align, len, element, init, external })
    }

    fn values(&mut self, init: &mut Vec<Value>) -> Result<()> {
        if self.take_mark(b'{') {
            while !self.take_mark(b'}') {
                self.values(init)?;
                self.take_mark(b',');
            }
            return Ok(());
        }
        let negative = self.take_mark(b'-');
        init.push(match self.next() {
            Some(Token::Integer(value)) => Value::Bits(if negative { value.wrapping_neg() } else { value }),
            Some(Token::Single(bits)) => Value::Float(f64::from(f32::from_bits(bits))),
            Some(Token::Double(value)) => Value::Float(if negative { -value } else { value }),
            Some(Token::Word("generic")) => {
                self.expect(b'(')?;
                let name = self.word()?.to_owned();
                let inner = self.distance()?;
                self.expect(b')')?;
                Value::Address(name, inner + self.distance()?)
            }
            Some(Token::Word(name)) => Value::Address(name.to_owned(), self.distance()?),
            _ => return Err(self.error("a value is missing")),
        });
        Ok(())
    }

    /// `+4`, `-4`, `+-4` or nothing.
    pub(crate) fn distance(&mut self) -> Result<i64> {
        let plus = self.take_mark(b'+');
        let minus = self.take_mark(b'-');
        if !plus && !minus {
            return Ok(0);
        }
        let value = self.integer()? as i64;
        Ok(if minus { value.wrapping_neg() } else { value })
    }

    fn function(&mut self) -> Result<Function> {
        let is_kernel = self.word()? == ".entry";
        let mut scopes = Scopes::default();
        let results =
            if self.peek() == Some(Token::Mark(b'(')) { self.formals(&mut scopes)? } else { Vec::new() };
        let name = self.word()?.to_owned();
        let parameters =
            if self.peek() == Some(Token::Mark(b'(')) { self.formals(&mut scopes)? } else { Vec::new() };
        let (mut max_threads, mut required_threads) = (None, None);
        let body = loop {
            match self.peek() {
                Some(Token::Mark(b';')) => {
                    self.at += 1;
                    break None;
                }
                Some(Token::Mark(b'{')) => break Some(self.body(scopes)?),
                Some(Token::Word(word @ (".maxntid" | ".reqntid"))) => {
                    self.at += 1;
                    let threads = self.threads()?;
                    max_threads = threads.iter().try_fold(1_u32, |product, n| product.checked_mul(*n));
                    if word == ".reqntid" {
                        required_threads = Some(threads);
                    }
                }
                // Directives of performance: their numbers say nothing here.
                Some(Token::Word(word)) if word.starts_with('.') => {
                    self.at += 1;
                    while matches!(self.peek(), Some(Token::Integer(_) | Token::Text(_) | Token::Mark(b',')))
                    {
                        self.at += 1;
                    }
                }
                _ => return Err(self.error("a body is missing")),
            }
        };
        Ok(Function { name, is_kernel, results, parameters, body, max_threads, required_threads })
    }

    /// Threads along x, y and z; an axis that is not given has one.
    fn threads(&mut self) -> Result<[u32; 3]> {
        let mut threads = [1; 3];
        for (axis, n) in threads.iter_mut().enumerate() {
            if axis > 0 && !self.take_mark(b',') {
                break;
            }
            let given = self.integer()?;
            *n = u32::try_from(given).map_err(|_| self.error("too many threads"))?;
        }
        Ok(threads)
    }

    fn formals(&mut self, scopes: &mut Scopes) -> Result<Vec<Formal>> {
        self.expect(b'(')?;
        let mut all = Vec::new();
        while !self.take_mark(b')') {
            match self.word()? {
                ".param" => all.push(Formal::Memory(self.variable(Space::Param, false)?)),
                ".reg" => {
                    self.word()?;
                    let name = self.word()?;
                    all.push(Formal::Register(scopes.declare(name)));
                }
                _ => return Err(self.error("`.param` or `.reg` is missing")),
            }
            self.take_mark(b',');
        }
        Ok(all)
    }

    fn body(&mut self, scopes: Scopes) -> Result<Body> {
        super::body::read(self, scopes)
    }
}

/// The space that a directive names.
pub(crate) fn space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" => Space::Global,
        ".const" => Space::Const,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}
