//! Pointers that a program passes. A value of these types exists only as the argument of a call from C, whose caller
//! promises what the manual asks for: that is what the methods rely on.

use std::ffi::{CStr, c_char};
use std::slice;

use super::super::device::Answer;
use super::super::error::Error;

/// A pointer to what a call reads.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct In<T>(*const T);

/// A pointer to what a call writes.
#[repr(transparent)]
#[derive(Debug)]
pub struct Out<T>(*mut T);

impl<T> In<T> {
    /// Whether it is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// That many values.
    ///
    /// # Errors
    /// If the pointer is null and there are some.
    pub fn slice(&self, count: usize) -> Answer<&[T]> {
        if count == 0 {
            return Ok(&[]);
        }
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises that many values, which no other thread writes during the call.
        Ok(unsafe { slice::from_raw_parts(self.0, count) })
    }

    /// The one value, which need not be aligned.
    ///
    /// # Errors
    /// If the pointer is null.
    pub fn get(&self) -> Answer<T>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises a value.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The same pointer, to values of another type.
    #[must_use]
    pub fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }
}

impl In<c_char> {
    /// The bytes of a string that ends with a zero.
    ///
    /// # Errors
    /// If the pointer is null.
    pub fn bytes(&self) -> Answer<&[u8]> {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises a string with a zero at its end.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// A name.
    ///
    /// # Errors
    /// If the pointer is null, or the name is not UTF-8.
    pub fn text(&self) -> Answer<&str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::INVALID_VALUE)
    }
}

impl<T> Out<T> {
    /// Whether it is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Writes the one value.
    ///
    /// # Errors
    /// If the pointer is null.
    pub fn set(&self, value: T) -> Answer {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises a place for a value; what was there has no destructor.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// The value that is there, of a call that exchanges one.
    ///
    /// # Errors
    /// If the pointer is null.
    pub fn get(&self) -> Answer<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }

    /// Places for that many values.
    ///
    /// # Errors
    /// If the pointer is null and there are some.
    pub fn slice(&mut self, count: usize) -> Answer<&mut [T]> {
        if count == 0 {
            return Ok(&mut []);
        }
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises that many places, which no other thread uses during the call. The calls that come here
        // take bytes and numbers, of which each value is right.
        Ok(unsafe { slice::from_raw_parts_mut(self.0, count) })
    }
}
