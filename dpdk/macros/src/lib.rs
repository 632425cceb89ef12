//! The attribute `#[dpdk::test]`: an ordinary test that gets a mempool of its own.
//!
//! ```ignore
//! #[dpdk::test(capacity = 63, cache = 0)]
//! fn a_frame_comes_back(pool: &dpdk::Mempool) {
//!     assert_eq!(pool.frame(b"abc").unwrap().to_vec(), b"abc");
//! }
//! ```
//!
//! The EAL starts once per process, with ordinary pages and no hardware. At the test's end the pool must
//! be whole again, else the test fails: the cheapest leak detector there is.
//!
//! Written on the bare token stream: the grammar is two numbers and the word after `fn`, which is not
//! worth a parser's build time in everything that has tests.
#![forbid(unsafe_code)]

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes `fn name(pool: &dpdk::Mempool)` a test. `capacity` is the pool's size (63 unless given), `cache`
/// that of each thread's cache (0 unless given).
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(args, item)
        .unwrap_or_else(|message| format!("::core::compile_error!({message:?});").parse().unwrap_or_default())
}

fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream, String> {
    let options = Options::parse(args)?;
    let function = Function::parse(item)?;
    let Options { capacity, cache } = options;
    let Function { attributes, name, result, item } = function;
    let parse =
        |source: String| source.parse::<TokenStream>().map_err(|error| format!("dpdk::test: {error}"));

    // Put together from the tokens as they were written, so that failures name the line in the test.
    let mut body = item;
    body.extend(parse(format!("::dpdk::testing::run({capacity}, {cache}, {name})"))?);
    let mut test = parse("#[::core::prelude::v1::test]".to_owned())?;
    test.extend(attributes);
    test.extend(parse(format!("fn {name}()"))?);
    test.extend(result);
    test.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    Ok(test)
}

struct Options {
    capacity: u32,
    cache: u32,
}

impl Options {
    fn parse(args: TokenStream) -> Result<Self, String> {
        let mut options = Self { capacity: 63, cache: 0 };
        let mut tokens = args.into_iter();
        while let Some(key) = tokens.next() {
            let equals = tokens.next().map(|token| token.to_string());
            let value = tokens.next().map(|token| token.to_string().replace('_', ""));
            let value = match (equals.as_deref(), value.as_deref().map(str::parse)) {
                (Some("="), Some(Ok(value))) => value,
                _ => return Err(format!("dpdk::test: write `{key} = NUMBER`")),
            };
            match key.to_string().as_str() {
                "capacity" => options.capacity = value,
                "cache" => options.cache = value,
                other => return Err(format!("dpdk::test: no option `{other}`, only `capacity` and `cache`")),
            }
            match tokens.next().map(|token| token.to_string()) {
                None => break,
                Some(comma) if comma == "," => {}
                Some(other) => return Err(format!("dpdk::test: a comma was expected, not `{other}`")),
            }
        }
        Ok(options)
    }
}

struct Function {
    /// `#[should_panic]`, `#[ignore]` and the like, which belong to the test and not to its body.
    attributes: TokenStream,
    name: String,
    /// `-> T`, or nothing.
    result: TokenStream,
    /// The function as it was written, without its attributes.
    item: TokenStream,
}

impl Function {
    fn parse(item: TokenStream) -> Result<Self, String> {
        let mut tokens = item.into_iter().peekable();
        let mut attributes = Vec::new();
        while let Some(TokenTree::Punct(punct)) = tokens.peek()
            && punct.as_char() == '#'
        {
            attributes.extend(tokens.by_ref().take(2));
        }
        let item: Vec<TokenTree> = tokens.collect();
        let keyword =
            item.iter().position(|token| matches!(token, TokenTree::Ident(i) if i.to_string() == "fn"));
        let keyword = keyword.ok_or("dpdk::test: only a function can be a test")?;
        let name =
            item.get(keyword + 1).map(ToString::to_string).ok_or("dpdk::test: the function has no name")?;
        let Some(TokenTree::Group(parameters)) = item.get(keyword + 2) else {
            return Err("dpdk::test: a test cannot be generic".to_owned());
        };
        if parameters.delimiter() != Delimiter::Parenthesis || parameters.stream().is_empty() {
            return Err(format!("dpdk::test: write `fn {name}(pool: &dpdk::Mempool)`"));
        }
        let body = item.len().saturating_sub(1);
        let result = item.get(keyword + 3..body).unwrap_or_default().iter().cloned().collect();
        Ok(Self {
            attributes: attributes.into_iter().collect(),
            name,
            result,
            item: item.into_iter().collect(),
        })
    }
}
